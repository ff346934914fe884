#pragma once

#include "protocol/frame.hpp"
#include "protocol/guest.capnp.h"
#include "protocol/limits.hpp"

#include <capnp/blob.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>

namespace coppice {

/// Standard input on its way to a guest: in the order in which it was given, in pieces that the
/// channel takes, one of them under way at a time. The bytes stay in the message they came in.
///
/// Guarantee: what waits here is bounded by what it costs us. What process_table allows follows
/// what the guest says it has taken, so it is no bound where guest and client are of one mind.
/// Owner: one instance actor.
class stdin_queue {
public:
  /// All that an honest guest may leave waiting, once in here, and room for what comes with it.
  static constexpr std::size_t waiting_bytes_max = 3 * limits::stdin_bytes_max;
  /// What an entry costs beside its message.
  static constexpr std::size_t entry_cost_bytes = 256;

  /// Whether one more message may wait.
  bool has_room_for(const frame_base& keep) const {
    return waiting_bytes_ + cost_bytes(keep) <= waiting_bytes_max;
  }

  /// `data` lies in `keep`; there is room for it.
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
    waiting_bytes_ = 0;
    is_under_way_ = false;
  }

private:
  struct input {
    std::uint32_t spid;
    frame_base keep;
    capnp::Data::Reader data;
    bool close;
  };

  static std::size_t cost_bytes(const frame_base& keep) {
    return keep.bytes().size() + entry_cost_bytes;
  }

  std::deque<input> waiting_;
  std::size_t waiting_bytes_ = 0;
  bool is_under_way_ = false;
};

} // namespace coppice
