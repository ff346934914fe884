#include "storage/inspector_ext4.hpp"

#include "storage/ext4_failure.hpp"
#include "storage/inspector_io.hpp"

#include <ext2fs/ext3_extents.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace coppice::storage::inspection {

namespace {

/// Blocks of 1, 2 or 4 KiB: what a kernel with 4 KiB pages can have mounted.
constexpr std::uint32_t log_block_size_max = 2;

/// Fewer blocks a group make more groups, whose descriptors are all held in memory.
constexpr std::uint32_t group_blocks_min = 1024;

/// The kernel's own limit for the depth of an extent tree.
constexpr std::uint16_t extent_depth_max = 5;

/// What a block of 4 KiB holds.
constexpr int leaf_extents_max = 340;

/// What our images have and what a kernel adds by itself. Others change the meaning of what is
/// read.
constexpr std::uint32_t known_features =
    EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS | EXT4_FEATURE_INCOMPAT_64BIT |
    EXT4_FEATURE_INCOMPAT_FLEX_BG | EXT4_FEATURE_INCOMPAT_CSUM_SEED |
    EXT4_FEATURE_INCOMPAT_LARGEDIR;

failure damaged(std::string text) {
  return fail(ec::damaged, "file system: " + std::move(text));
}

std::string inode_text(std::uint32_t number) {
  return "inode " + std::to_string(number);
}

/// What libext2fs would believe: the numbers by which it allocates memory before it looks further.
result<void> check_superblock(block_source& source) {
  std::array<std::byte, SUPERBLOCK_SIZE> bytes{};
  if (source.size_bytes() < SUPERBLOCK_OFFSET + bytes.size()) {
    return damaged("the disk is too small for a superblock");
  }
  if (auto read = source.read(SUPERBLOCK_OFFSET, bytes); !read) {
    return read;
  }
  ext2_super_block super{};
  static_assert(sizeof super == SUPERBLOCK_SIZE);
  std::memcpy(&super, bytes.data(), sizeof super);
  if (super.s_magic != EXT2_SUPER_MAGIC) {
    return damaged("no ext4 superblock");
  }
  if (super.s_log_block_size > log_block_size_max || super.s_blocks_per_group < group_blocks_min) {
    return damaged("block or group size that no kernel mounts");
  }
  if ((super.s_feature_incompat & ~known_features) != 0) {
    return damaged("features that no image has (" +
                   std::to_string(super.s_feature_incompat & ~known_features) + ")");
  }
  auto blocks = std::uint64_t{super.s_blocks_count};
  if ((super.s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT) != 0) {
    blocks |= std::uint64_t{super.s_blocks_count_hi} << 32;
  }
  if (blocks > source.size_bytes() >> (10 + super.s_log_block_size)) {
    return damaged("larger than its disk");
  }
  return {};
}

} // namespace

std::int64_t file_inode::mtime_unix_s() const {
  const auto low = static_cast<std::int32_t>(fields.i_mtime);
  // Two bits extend the seconds where the inode is large enough to have them.
  const bool has_extra = fields.i_extra_isize >= offsetof(ext2_inode_large, i_mtime_extra) +
                                                     sizeof fields.i_mtime_extra -
                                                     EXT2_GOOD_OLD_INODE_SIZE;
  const auto epoch = has_extra ? std::int64_t{fields.i_mtime_extra & 3u} : 0;
  return low + (epoch << 32);
}

// -- file system
// -----------------------------------------------------------------------------------

file_system::file_system(std::unique_ptr<block_source> source) : source_{std::move(source)} {
  // nop
}

result<std::unique_ptr<file_system>> file_system::open(std::unique_ptr<block_source> source) {
  if (auto checked = check_superblock(*source); !checked) {
    return checked.error();
  }
  std::unique_ptr<file_system> out{new file_system{std::move(source)}};
  ext2_filsys opened = nullptr;
  if (auto code = open_on_source(*out->source_, &opened); code != 0) {
    return ext4_failure(code, "file system");
  }
  out->fs_.reset(opened);
  return out;
}

result<file_inode> file_system::inode(std::uint32_t number) {
  file_inode out;
  out.number = number;
  auto code = ext2fs_read_inode_full(fs_.get(), number, reinterpret_cast<ext2_inode*>(&out.fields),
                                     sizeof out.fields);
  if (code != 0) {
    return ext4_failure(code, "file system: " + inode_text(number));
  }
  if (out.fields.i_mode == 0 || out.fields.i_links_count == 0) {
    return damaged("a name for " + inode_text(number) + ", which is not in use");
  }
  return out;
}

// -- content
// ---------------------------------------------------------------------------------------

content_reader::content_reader(file_system& fs, const file_inode& inode) : fs_{fs}, inode_{inode} {
  // nop
}

content_reader::~content_reader() {
  ext2fs_extent_free(extents_);
}

result<std::unique_ptr<content_reader>> content_reader::open(file_system& fs,
                                                             const file_inode& inode) {
  if ((inode.fields.i_flags & (EXT4_INLINE_DATA_FL | EXT4_ENCRYPT_FL)) != 0) {
    return damaged(inode_text(inode.number) + " has inline or encrypted content");
  }
  std::unique_ptr<content_reader> out{new content_reader{fs, inode}};
  if ((inode.fields.i_flags & EXT4_EXTENTS_FL) != 0) {
    ext3_extent_header header{};
    std::memcpy(&header, inode.fields.i_block, sizeof header);
    if (header.eh_magic != EXT3_EXT_MAGIC || header.eh_depth > extent_depth_max) {
      return damaged(inode_text(inode.number) + " has a malformed extent tree");
    }
    // The handle works on our copy of the inode, which lives as long as it.
    auto code =
        ext2fs_extent_open2(fs.handle(), inode.number,
                            reinterpret_cast<ext2_inode*>(&out->inode_.fields), &out->extents_);
    if (code != 0) {
      out->extents_ = nullptr;
      return ext4_failure(code, "file system: extents of " + inode_text(inode.number));
    }
  }
  return out;
}

result<content_reader::run> content_reader::map(std::uint64_t block) {
  run out;
  if (extents_ != nullptr) {
    auto code = ext2fs_extent_goto(extents_, block);
    if (code == EXT2_ET_EXTENT_NOT_FOUND) {
      out.count = hole_blocks(block);
      return out;
    }
    ext2fs_extent extent{};
    if (code == 0) {
      code = ext2fs_extent_get(extents_, EXT2_EXTENT_CURRENT, &extent);
    }
    if (code != 0) {
      return ext4_failure(code, "file system: extents of " + inode_text(inode_.number));
    }
    if (block < extent.e_lblk || block - extent.e_lblk >= extent.e_len) {
      return damaged(inode_text(inode_.number) + " has a malformed extent");
    }
    out.count = extent.e_len - (block - extent.e_lblk);
    if ((extent.e_flags & EXT2_EXTENT_FLAGS_UNINIT) == 0) {
      out.first_block = extent.e_pblk + (block - extent.e_lblk);
    } else {
      return out;
    }
  } else {
    blk64_t found = 0;
    auto code =
        ext2fs_bmap2(fs_.handle(), inode_.number, reinterpret_cast<ext2_inode*>(&inode_.fields),
                     nullptr, 0, block, nullptr, &found);
    if (code != 0) {
      return ext4_failure(code, "file system: blocks of " + inode_text(inode_.number));
    }
    out.first_block = found;
    if (found == 0) {
      return out;
    }
  }
  if (out.first_block == 0 || out.first_block >= fs_.block_count() ||
      out.count > fs_.block_count() - out.first_block) {
    return damaged(inode_text(inode_.number) + " has content outside the file system");
  }
  return out;
}

/// How many blocks from `block` on, which no extent has, are a hole: at least 1. Reading on from
/// where the search stopped; where the tree says anything odd, the next search will find out.
std::uint64_t content_reader::hole_blocks(std::uint64_t block) {
  ext2fs_extent extent{};
  auto code = ext2fs_extent_get(extents_, EXT2_EXTENT_CURRENT, &extent);
  // After a search, the extent behind the last one of a leaf is the first one of the same leaf.
  for (int i = 0; i < 2 * leaf_extents_max && code == 0 && extent.e_lblk <= block; ++i) {
    code = ext2fs_extent_get(extents_, EXT2_EXTENT_NEXT_LEAF, &extent);
  }
  if (code == 0 && extent.e_lblk > block) {
    return extent.e_lblk - block;
  }
  constexpr std::uint64_t blocks_max = 1ull << 32;
  return code == EXT2_ET_EXTENT_NO_NEXT && block < blocks_max ? blocks_max - block : 1;
}

result<content_reader::piece> content_reader::find(std::uint64_t offset_bytes,
                                                   std::uint64_t bytes_max) {
  const std::uint64_t block_bytes = fs_.block_bytes();
  const auto inside = offset_bytes % block_bytes;
  piece out;
  // A file without extents is told block by block.
  while (out.bytes < bytes_max) {
    auto mapped = map((offset_bytes + out.bytes) / block_bytes);
    if (!mapped) {
      return mapped.error();
    }
    const auto at = mapped->first_block * block_bytes;
    if (out.bytes == 0) {
      out.disk_offset_bytes = at == 0 ? 0 : at + inside;
      out.bytes = mapped->count * block_bytes - inside;
    } else if (out.disk_offset_bytes == 0 ? at == 0 : out.disk_offset_bytes + out.bytes == at) {
      out.bytes += mapped->count * block_bytes;
    } else {
      break;
    }
  }
  out.bytes = std::min(out.bytes, bytes_max);
  return out;
}

result<void> content_reader::read(std::uint64_t offset_bytes, std::span<std::byte> out) {
  const std::uint64_t block_bytes = fs_.block_bytes();
  while (!out.empty()) {
    auto mapped = map(offset_bytes / block_bytes);
    if (!mapped) {
      return mapped.error();
    }
    const auto inside = offset_bytes % block_bytes;
    const auto length = static_cast<std::size_t>(
        std::min<std::uint64_t>(mapped->count * block_bytes - inside, out.size()));
    if (mapped->first_block == 0) {
      std::fill_n(out.begin(), length, std::byte{});
    } else if (auto done =
                   fs_.source().read(mapped->first_block * block_bytes + inside, out.first(length));
               !done) {
      return done;
    }
    offset_bytes += length;
    out = out.subspan(length);
  }
  return {};
}

// -- directories
// -----------------------------------------------------------------------------------

directory_reader::directory_reader(std::unique_ptr<content_reader> content, std::uint64_t blocks,
                                   std::uint32_t block_bytes)
    : content_{std::move(content)}, blocks_{blocks}, block_(block_bytes), offset_{block_bytes} {
  // nop
}

result<std::unique_ptr<directory_reader>> directory_reader::open(file_system& fs,
                                                                 const file_inode& inode) {
  const auto size = inode.size_bytes();
  if (size % fs.block_bytes() != 0 || size > directory_bytes_max) {
    return damaged("directory " + inode_text(inode.number) + " of " + std::to_string(size) +
                   " bytes");
  }
  auto content = content_reader::open(fs, inode);
  if (!content) {
    return content.error();
  }
  return std::unique_ptr<directory_reader>{
      new directory_reader{std::move(*content), size / fs.block_bytes(), fs.block_bytes()}};
}

result<std::optional<name_entry>> directory_reader::next() {
  for (;;) {
    if (offset_ == block_.size()) {
      if (next_block_ == blocks_) {
        return std::optional<name_entry>{};
      }
      if (auto read = content_->read(next_block_ * block_.size(), block_); !read) {
        return read.error();
      }
      ++next_block_;
      offset_ = 0;
      // A hole in a directory is nothing but unused room.
      if (std::all_of(block_.begin(), block_.end(), [](auto b) { return b == std::byte{}; })) {
        offset_ = block_.size();
        hole_bytes_ += block_.size();
        if (hole_bytes_ > directory_hole_bytes_max) {
          return damaged("a directory that is mostly holes");
        }
        continue;
      }
    }
    auto entry = parse();
    if (!entry || *entry) {
      return entry;
    }
  }
}

/// The entry at the offset, which moves on; absent where the entry is unused, `.` or `..`.
result<std::optional<name_entry>> directory_reader::parse() {
  constexpr std::size_t head_bytes = 8;
  const auto left = block_.size() - offset_;
  std::uint32_t number = 0;
  std::uint16_t length = 0;
  std::uint8_t name_length = 0;
  if (left < head_bytes) {
    return damaged("directory entry across blocks");
  }
  const auto* at = block_.data() + offset_;
  std::memcpy(&number, at, sizeof number);
  std::memcpy(&length, at + 4, sizeof length);
  std::memcpy(&name_length, at + 6, sizeof name_length);
  if (length < head_bytes || length % 4 != 0 || length > left ||
      name_length > length - head_bytes) {
    return damaged("malformed directory entry");
  }
  const std::string_view name{reinterpret_cast<const char*>(at + head_bytes), name_length};
  offset_ += length;
  if (number == 0 || name == "." || name == "..") {
    return std::optional<name_entry>{};
  }
  if (name.empty() || name.find('/') != name.npos || name.find('\0') != name.npos) {
    return damaged("directory entry with an impossible name");
  }
  return std::optional{name_entry{std::string{name}, number}};
}

} // namespace coppice::storage::inspection
