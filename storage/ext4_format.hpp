#pragma once

#include "protocol/result.hpp"

#include <ext2fs/ext2fs.h>

#include <cstdint>
#include <filesystem>
#include <memory>

namespace coppice::storage {

struct ext4_closer {
  /// Frees without writing: what is to stay was flushed before.
  void operator()(ext2_filsys fs) const {
    ext2fs_free(fs);
  }
};
using ext4_handle = std::unique_ptr<struct_ext2_filsys, ext4_closer>;

inline constexpr std::uint32_t ext4_block_bytes = 4096;

/// Makes an empty ext4 of limits::disk_bytes in the existing raw file, which must be all holes.
///
/// Problem: mke2fs takes its features from a file in /etc that an administrator may have changed,
/// and every image's disk must be the same kind of file system.
/// Guarantee: Debian 12's ext4 features without a journal, without reserved blocks; inode tables
/// marked as zeroed, which they are, so that a guest's kernel never initialises them behind a run;
/// the groups' tables allocated; no directory yet, not even the root's. A new UUID and hash seed.
result<ext4_handle> format_ext4(const std::filesystem::path& raw);

/// The inode that `mke2fs` gives to /lost+found: the first that is not reserved.
inline constexpr std::uint32_t lost_and_found_inode = 11;

} // namespace coppice::storage
