#pragma once

#include <cstddef>
#include <span>

namespace coppice::storage {

/// Whether the first cluster of an ext4 changed in nothing but what every mount and unmount writes:
/// times, mount count, bytes written so far, where it was last mounted, and the checksum of these.
/// Both are the disk's first 4 KiB.
bool is_mount_bookkeeping(std::span<const std::byte> before, std::span<const std::byte> after);

} // namespace coppice::storage
