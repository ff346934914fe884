#include "storage/ext4_content.hpp"

#include "storage/ext4_failure.hpp"
#include "storage/ext4_format.hpp"

#include <ext2fs/ext3_extents.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>

namespace coppice::storage {

namespace {

// Extents are written as they lie in memory.
static_assert(std::endian::native == std::endian::little);

/// Content gathered before it is allocated and written.
constexpr std::size_t gathered_bytes_max = 1u << 20;
static_assert(gathered_bytes_max % ext4_block_bytes == 0);

/// A file's blocks are numbered with 32 bits, and the last number is not used.
constexpr std::uint64_t file_bytes_max = 0xffff'ffffull * ext4_block_bytes;

/// An initialised extent of ext4 is at most this long.
constexpr std::uint64_t extent_blocks_max = EXT_INIT_MAX_LEN;

/// Extents that an inode itself holds.
constexpr std::size_t inode_extents_max = 4;

constexpr std::uint32_t sectors_per_block = ext4_block_bytes / 512;

struct extent_closer {
  void operator()(ext2_extent_handle* handle) const {
    ext2fs_extent_free(handle);
  }
};

} // namespace

ext4_content::ext4_content(ext2_filsys fs) : fs_{fs} {
  // nop
}

void ext4_content::begin() {
  start_bytes_ = 0;
  gathered_.clear();
  extents_.clear();
  block_count_ = 0;
}

result<void> ext4_content::append(std::uint64_t offset_bytes, std::span<const std::byte> data) {
  if (offset_bytes < end_bytes()) {
    return fail(ec::damaged, "content that overlaps what came before");
  }
  if (offset_bytes > file_bytes_max || data.size() > file_bytes_max - offset_bytes) {
    return fail(ec::too_large, "content beyond 16 TiB");
  }
  const auto gap = offset_bytes - end_bytes();
  if (gap < ext4_block_bytes) {
    gathered_.resize(gathered_.size() + static_cast<std::size_t>(gap));
  } else {
    if (auto stored = store_gathered(); !stored) {
      return stored;
    }
    start_bytes_ = offset_bytes / ext4_block_bytes * ext4_block_bytes;
    gathered_.assign(static_cast<std::size_t>(offset_bytes - start_bytes_), std::byte{});
  }
  while (!data.empty()) {
    if (gathered_.size() >= gathered_bytes_max) {
      if (auto stored = store_gathered(); !stored) {
        return stored;
      }
    }
    auto part = data.first(std::min(data.size(), gathered_bytes_max - gathered_.size()));
    gathered_.insert(gathered_.end(), part.begin(), part.end());
    data = data.subspan(part.size());
  }
  return {};
}

result<void> ext4_content::append_blocks(std::uint64_t first_block,
                                         std::span<const std::byte> data) {
  return store(first_block, data);
}

result<void> ext4_content::finish() {
  const auto end = end_bytes();
  auto stored = store_gathered();
  start_bytes_ = end;
  return stored;
}

/// Writes what is gathered, the last block filled up with zeros, and goes on behind it.
result<void> ext4_content::store_gathered() {
  const auto blocks = (gathered_.size() + ext4_block_bytes - 1) / ext4_block_bytes;
  gathered_.resize(blocks * ext4_block_bytes);
  if (auto stored = store(start_bytes_ / ext4_block_bytes, gathered_); !stored) {
    return stored;
  }
  start_bytes_ += gathered_.size();
  gathered_.clear();
  return {};
}

result<void> ext4_content::store(std::uint64_t first_block, std::span<const std::byte> blocks) {
  while (!blocks.empty()) {
    const auto wanted =
        std::min<std::uint64_t>(blocks.size() / ext4_block_bytes, extent_blocks_max);
    blk64_t found = 0;
    blk64_t count = 0;
    auto code = ext2fs_new_range(fs_, 0, goal_block_, wanted, nullptr, &found, &count);
    if (code != 0) {
      return ext4_failure(code, "allocating " + std::to_string(wanted) + " blocks");
    }
    ext2fs_block_alloc_stats_range(fs_, found, static_cast<blk_t>(count), +1);
    code = io_channel_write_blk64(fs_->io, found, static_cast<int>(count), blocks.data());
    if (code != 0) {
      return ext4_failure(code, "writing block " + std::to_string(found));
    }
    auto* last = extents_.empty() ? nullptr : &extents_.back();
    if (last != nullptr && last->e_pblk + last->e_len == found &&
        last->e_lblk + last->e_len == first_block && last->e_len + count <= extent_blocks_max) {
      last->e_len += static_cast<std::uint32_t>(count);
    } else {
      extents_.push_back({found, first_block, static_cast<std::uint32_t>(count), 0});
    }
    goal_block_ = found + count;
    block_count_ += count;
    first_block += count;
    blocks = blocks.subspan(static_cast<std::size_t>(count) * ext4_block_bytes);
  }
  return {};
}

bool ext4_content::has_tree() const {
  return extents_.size() > inode_extents_max;
}

void ext4_content::fill(ext2_inode& inode) const {
  struct {
    ext3_extent_header header;
    ext3_extent extents[inode_extents_max];
  } root{};
  static_assert(sizeof root == sizeof inode.i_block);
  root.header.eh_magic = EXT3_EXT_MAGIC;
  root.header.eh_max = inode_extents_max;
  inode.i_flags |= EXT4_EXTENTS_FL;
  if (!has_tree()) {
    root.header.eh_entries = static_cast<std::uint16_t>(extents_.size());
    for (std::size_t i = 0; i < extents_.size(); ++i) {
      root.extents[i].ee_block = static_cast<std::uint32_t>(extents_[i].e_lblk);
      root.extents[i].ee_len = static_cast<std::uint16_t>(extents_[i].e_len);
      root.extents[i].ee_start = static_cast<std::uint32_t>(extents_[i].e_pblk);
      root.extents[i].ee_start_hi = static_cast<std::uint16_t>(extents_[i].e_pblk >> 32);
    }
  }
  std::memcpy(inode.i_block, &root, sizeof root);
  const auto sectors = block_count_ * sectors_per_block;
  inode.i_blocks = static_cast<std::uint32_t>(sectors);
  inode.osd2.linux2.l_i_blocks_hi = static_cast<std::uint16_t>(sectors >> 32);
}

result<void> ext4_content::write_tree(std::uint32_t number, ext2_inode& inode) const {
  ext2_extent_handle_t opened = nullptr;
  auto code = ext2fs_extent_open2(fs_, number, &inode, &opened);
  if (code != 0) {
    return ext4_failure(code, "opening the extents of inode " + std::to_string(number));
  }
  std::unique_ptr<ext2_extent_handle, extent_closer> handle{opened};
  for (auto extent : extents_) {
    code = ext2fs_extent_insert(opened, EXT2_EXTENT_INSERT_AFTER, &extent);
    if (code == 0) {
      code = ext2fs_extent_fix_parents(opened);
    }
    if (code != 0) {
      return ext4_failure(code, "adding an extent to inode " + std::to_string(number));
    }
  }
  return {};
}

} // namespace coppice::storage
