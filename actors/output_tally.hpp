#pragma once

#include "protocol/types.capnp.h"

#include <array>
#include <cstdint>
#include <map>
#include <span>

namespace coppice {

/// What the event log has of each process's output. Its sender counts what a process produced; this
/// is what of it was not refused by a full log.
///
/// Owner: one operation actor. It grows with the processes that its sender lets write.
class output_tally {
public:
  void add(std::uint32_t spid, bool is_stderr, std::span<const unsigned char> data);

  /// Puts it into the summaries of a result.
  void note(std::uint32_t spid, proto::RunResult::Builder result) const;

  /// Nothing more comes of this process.
  void forget(std::uint32_t spid) {
    of_.erase(spid);
  }

private:
  struct stream {
    std::uint64_t kept_bytes = 0;
    bool is_plain = true;
  };

  std::map<std::uint32_t, std::array<stream, 2>> of_;
};

} // namespace coppice
