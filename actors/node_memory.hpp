#pragma once

#include <cstdint>

namespace coppice {

/// What the kernel says that new programs can have without others being swapped out or ended
/// (MemAvailable of /proc/meminfo); 0 where it does not say.
std::uint64_t available_memory_bytes();

} // namespace coppice
