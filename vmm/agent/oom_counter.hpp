#pragma once

#include "vmm/agent/descriptor.hpp"

#include <cstdint>
#include <optional>
#include <string_view>

namespace coppice::agent {

/// Whether the kernel has killed a process for want of memory since this was made. Its source is
/// opened then, too: what a run does to /proc does not matter.
class oom_counter {
public:
  oom_counter();

  /// False also where the kernel does not count.
  bool has_grown() const;

private:
  std::optional<std::uint64_t> read() const;

  descriptor counters_;
  std::optional<std::uint64_t> at_first_;
};

/// The value of `oom_kill` in a text like /proc/vmstat.
std::optional<std::uint64_t> parse_oom_kills(std::string_view text);

} // namespace coppice::agent
