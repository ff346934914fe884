#include "storage/disk/superblock_change.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace coppice::storage {

namespace {

// The kernel's Documentation/filesystems/ext4/super.rst; the superblock starts at byte 1024.
constexpr std::size_t superblock_offset = 1024;

struct field {
  std::size_t offset;
  std::size_t bytes;
};

constexpr std::array bookkeeping{
    field{0x2c, 4},  // s_mtime: last mount
    field{0x30, 4},  // s_wtime: last write
    field{0x34, 2},  // s_mnt_count
    field{0x88, 64}, // s_last_mounted
    field{0x178, 8}, // s_kbytes_written
    field{0x274, 1}, // s_wtime_hi
    field{0x275, 1}, // s_mtime_hi
    field{0x3fc, 4}, // s_checksum
};

} // namespace

bool is_mount_bookkeeping(std::span<const std::byte> before, std::span<const std::byte> after) {
  if (before.size() != after.size() || before.size() < superblock_offset + 1024) {
    return false;
  }
  std::array<std::byte, 4096> masked{};
  if (after.size() > masked.size()) {
    return false;
  }
  std::copy(after.begin(), after.end(), masked.begin());
  for (auto f : bookkeeping) {
    auto at = superblock_offset + f.offset;
    std::copy_n(before.begin() + static_cast<std::ptrdiff_t>(at), f.bytes,
                masked.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return std::equal(before.begin(), before.end(), masked.begin());
}

} // namespace coppice::storage
