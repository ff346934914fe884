#pragma once

#include "vmm/agent/descriptor.hpp"

#include <cstdint>
#include <span>
#include <string>

/// What must differ between two guests that were restored from one saved state, and what a process
/// takes for granted: clock, random pool, host name, loopback.
namespace coppice::agent {

result<void> set_wall_clock(std::int64_t unix_time_ns);

/// Credits the bytes to the random pool and makes the kernel's generator start over from it.
result<void> add_entropy(std::span<const unsigned char> bytes);

result<void> set_host_name(const std::string& name);

result<void> raise_loopback();

} // namespace coppice::agent
