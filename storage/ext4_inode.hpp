#pragma once

#include "storage/layer_files.hpp"

#include <ext2fs/ext2fs.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace coppice::storage {

/// An inode of 256 bytes as it lies on the disk: the known fields, then room for attributes.
/// Written whole, so that nothing of an earlier owner of the inode shines through.
struct ext4_inode {
  ext2_inode_large fields{};
  std::array<std::byte, 256 - sizeof(ext2_inode_large)> rest{};

  /// `type` is one of LINUX_S_IF…; one link; all four times are the modification time. Times that
  /// ext4 cannot hold (before 1901, after 2446) become the nearest that it can.
  ext4_inode(std::uint32_t type, const file_attributes& attributes);

  void set_size(std::uint64_t size_bytes);

  ext2_inode* base() {
    return reinterpret_cast<ext2_inode*>(&fields);
  }
  result<void> write(ext2_filsys fs, std::uint32_t number);
};

/// Adds the attributes to an inode that is on the disk. too_large: more than it holds (what fits
/// into the inode and one block); damaged: a malformed access control list.
result<void> write_xattrs(ext2_filsys fs, std::uint32_t number,
                          const std::vector<extended_attribute>& xattrs);

} // namespace coppice::storage
