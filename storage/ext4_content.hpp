#pragma once

#include "protocol/result.hpp"

#include <ext2fs/ext2fs.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace coppice::storage {

/// Blocks of an ext4 under construction.
///
/// Problem: libext2fs's own file calls allocate and write block by block. Here content is gathered
/// into runs, allocated behind one another and written in one call; holes stay holes.
/// Owner: the builder; one thread.
class ext4_content {
public:
  explicit ext4_content(ext2_filsys fs);

  /// Starts the content of the next file.
  void begin();

  /// Adds bytes at an offset not before the end of those added so far. damaged: it is; too_large:
  /// beyond what ext4 addresses.
  result<void> append(std::uint64_t offset_bytes, std::span<const std::byte> data);

  /// Adds whole blocks at once, from `first_block` of the file on.
  result<void> append_blocks(std::uint64_t first_block, std::span<const std::byte> data);

  /// Ends the content; `end_bytes` is behind the last byte added.
  result<void> finish();
  std::uint64_t end_bytes() const {
    return start_bytes_ + gathered_.size();
  }

  /// Puts the extents into a new inode that is being filled: its i_block, i_blocks and flag. If
  /// there are more than fit, `write_tree` must follow once the inode is on the disk.
  void fill(ext2_inode& inode) const;
  bool has_tree() const;
  result<void> write_tree(std::uint32_t number, ext2_inode& inode) const;

private:
  result<void> store_gathered();
  result<void> store(std::uint64_t first_block, std::span<const std::byte> blocks);

  ext2_filsys fs_;
  std::uint64_t goal_block_ = 0;
  std::uint64_t start_bytes_ =
      0; ///< in the file, of what is gathered; a multiple of the block size
  std::vector<std::byte> gathered_;
  std::vector<ext2fs_extent> extents_;
  std::uint64_t block_count_ = 0;
};

} // namespace coppice::storage
