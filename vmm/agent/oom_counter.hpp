#pragma once

#include "vmm/agent/descriptor.hpp"

#include <cstdint>
#include <optional>
#include <string_view>

namespace coppice::agent {

/// The processes that the kernel has killed for want of memory since this was made. Its source is
/// opened then, too: what a run does to /proc does not matter.
class oom_counter {
public:
  oom_counter();
  /// `counters`: a file like /proc/vmstat.
  explicit oom_counter(descriptor counters);

  /// Whether there was one that has not been taken yet, which takes it: an end has one reason, and
  /// a reason one end. False also where the kernel does not count.
  bool take_one();

private:
  std::optional<std::uint64_t> read() const;

  descriptor counters_;
  std::optional<std::uint64_t> taken_;
};

/// The value of `oom_kill` in a text like /proc/vmstat.
std::optional<std::uint64_t> parse_oom_kills(std::string_view text);

} // namespace coppice::agent
