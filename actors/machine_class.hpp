#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

namespace coppice {

/// A size of microVMs. Every run has one of a few, so that machines can be made before they are
/// needed.
struct machine_class {
  std::uint32_t cpus = 1;
  std::uint32_t memory_mib = 256;
  auto
  operator<=>(const machine_class&) const = default; ///< fewer processors first, then less memory
};

/// The smallest of `sorted` that has so much of both.
inline std::optional<machine_class> smallest_class(const std::vector<machine_class>& sorted,
                                                   const machine_class& needs) {
  auto found = std::find_if(sorted.begin(), sorted.end(), [&](const machine_class& c) {
    return c.cpus >= needs.cpus && c.memory_mib >= needs.memory_mib;
  });
  return found == sorted.end() ? std::nullopt : std::optional{*found};
}

} // namespace coppice
