#pragma once

#include "vmm/agent/descriptor.hpp"

#include <cstdint>
#include <span>
#include <string>

/// What must differ between two guests that were restored from one saved state, and what a process
/// takes for granted: clock, random pool, host name, boot id, loopback.
namespace coppice::agent {

result<void> set_wall_clock(std::int64_t unix_time_ns);

/// What the host must send at least; the kernel takes a generator seeded with less for not ready.
inline constexpr std::size_t entropy_bytes_min = 32;

/// Makes the agent's own node of the random pool; what is in /dev belongs to what runs. Once.
result<void> prepare_random_node();

/// Credits the bytes to the random pool and makes the kernel's generator start over from it: from
/// then on no byte that it gives can be derived from what it was before.
result<void> add_entropy(std::span<const unsigned char> bytes);

result<void> set_host_name(const std::string& name);

result<void> raise_loopback();

/// Draws a boot id for `cover_boot_id`. After `add_entropy`.
result<void> draw_boot_id();

/// Puts the id that was drawn over the kernel's boot id, which cannot be set and is the same in all
/// guests of one template, in the /proc that is mounted below `root`.
result<void> cover_boot_id(int root);

} // namespace coppice::agent
