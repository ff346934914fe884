#pragma once

#include "protocol/frame.hpp"
#include "protocol/guest.capnp.h"

#include <capnp/blob.h>

#include <cstdint>
#include <deque>
#include <optional>

namespace coppice {

/// Standard input on its way to a guest: in the order in which it was given, in pieces that the
/// channel takes, one of them under way at a time. The bytes stay in the message they came in.
///
/// Owner: one instance actor; how much may be in here is process_table's to say.
class stdin_queue {
public:
  /// `data` lies in `keep`.
  void add(std::uint32_t spid, frame_base keep, capnp::Data::Reader data, bool close);

  /// The next piece; nothing when there is none or one is under way.
  std::optional<frame<proto::ToGuest>> next(std::uint64_t run);

  /// The piece under way has reached the channel.
  void sent() {
    is_under_way_ = false;
  }

  /// Nobody reads it any more.
  void drop(std::uint32_t spid);

  void clear() {
    waiting_.clear();
    is_under_way_ = false;
  }

private:
  struct input {
    std::uint32_t spid;
    frame_base keep;
    capnp::Data::Reader data;
    bool close;
  };

  std::deque<input> waiting_;
  bool is_under_way_ = false;
};

} // namespace coppice
