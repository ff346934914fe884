#include "storage/ext4_superblock.hpp"

#include "storage/error.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace coppice::storage {

namespace {

// The kernel's Documentation/filesystems/ext4/super.rst; numbers are little-endian.
constexpr std::uint64_t superblock_offset = 1024;
constexpr std::size_t superblock_bytes = 1024;

constexpr std::size_t s_blocks_count_lo = 0x4;
constexpr std::size_t s_log_block_size = 0x18;
constexpr std::size_t s_magic = 0x38;
constexpr std::size_t s_state = 0x3a;
constexpr std::size_t s_feature_compat = 0x5c;
constexpr std::size_t s_feature_incompat = 0x60;
constexpr std::size_t s_blocks_count_hi = 0x150;

constexpr std::uint64_t ext4_magic = 0xef53;
constexpr std::uint64_t state_valid = 0x1;
constexpr std::uint64_t state_error = 0x2;
constexpr std::uint64_t compat_has_journal = 0x4;
constexpr std::uint64_t incompat_recover = 0x4;
constexpr std::uint64_t incompat_journal_device = 0x8;
constexpr std::uint64_t incompat_64bit = 0x80;

/// 64 KiB, the largest block size of the format.
constexpr std::uint64_t log_block_size_max = 6;

using superblock = std::array<std::byte, superblock_bytes>;

std::uint64_t load_le(const superblock& from, std::size_t at, std::size_t bytes) {
  std::uint64_t value = 0;
  for (auto i = bytes; i > 0; --i) {
    value = value << 8 | static_cast<std::uint64_t>(from[at + i - 1]);
  }
  return value;
}

/// Precondition: the logarithm is within its limit.
bool fits(const superblock& from, std::uint64_t disk_bytes) {
  auto blocks = load_le(from, s_blocks_count_lo, 4);
  if ((load_le(from, s_feature_incompat, 4) & incompat_64bit) != 0) {
    blocks |= load_le(from, s_blocks_count_hi, 4) << 32;
  }
  auto block_bytes = std::uint64_t{1024} << load_le(from, s_log_block_size, 4);
  return blocks <= disk_bytes / block_bytes;
}

} // namespace

result<void> check_clean_ext4(block_source& disk) {
  superblock found{};
  if (disk.size_bytes() < superblock_offset + superblock_bytes) {
    return fail(ec::damaged, "the disk is too small for an ext4 file system");
  }
  if (auto done = disk.read(superblock_offset, found); !done) {
    return done;
  }
  if (load_le(found, s_magic, 2) != ext4_magic) {
    return fail(ec::damaged, "the disk does not hold an ext4 file system");
  }
  if (load_le(found, s_log_block_size, 4) > log_block_size_max || !fits(found, disk.size_bytes())) {
    return fail(ec::damaged, "the ext4 file system is larger than its disk");
  }
  auto incompat = load_le(found, s_feature_incompat, 4);
  if ((incompat & incompat_recover) != 0) {
    return fail(ec::not_clean, "the ext4 file system needs recovery");
  }
  if ((load_le(found, s_feature_compat, 4) & compat_has_journal) != 0 ||
      (incompat & incompat_journal_device) != 0) {
    return fail(ec::unsupported, "the ext4 file system has a journal");
  }
  auto state = load_le(found, s_state, 2);
  if ((state & state_error) != 0) {
    return fail(ec::not_clean, "the ext4 file system is marked as having errors");
  }
  // Any other bit stands for work that a kernel had begun.
  if (state != state_valid) {
    return fail(ec::not_clean, "the ext4 file system was not cleanly unmounted (state " +
                                   std::to_string(state) + ")");
  }
  return {};
}

} // namespace coppice::storage
