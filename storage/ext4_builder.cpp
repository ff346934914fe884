#include "storage/ext4_builder.hpp"

#include "protocol/limits.hpp"
#include "storage/ext4_directory.hpp"
#include "storage/ext4_failure.hpp"
#include "storage/file.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace coppice::storage {

namespace {

/// A target of this length or more does not fit into the inode and gets a block.
constexpr std::size_t fast_symlink_bytes = sizeof(ext2_inode::i_block);

/// What the kernel accepts: one block with its final zero.
constexpr std::size_t symlink_bytes_max = ext4_block_bytes - 1;

/// Beyond this many the kernel stops counting a directory's links (feature dir_nlink).
constexpr std::uint32_t directory_links_max = 65'000;

constexpr const char* lost_and_found = "lost+found";

std::uint32_t type_of(file_kind kind) {
  switch (kind) {
  case file_kind::character_device:
    return LINUX_S_IFCHR;
  case file_kind::block_device:
    return LINUX_S_IFBLK;
  case file_kind::fifo:
    return LINUX_S_IFIFO;
  case file_kind::symlink:
    return LINUX_S_IFLNK;
  case file_kind::regular:
    break;
  }
  return LINUX_S_IFREG;
}

} // namespace

/// A directory whose inode number is known, while its names are not written yet.
struct ext4_builder::pending_directory {
  const layer_tree::directory* names = nullptr;
  std::uint32_t number = 0;
  std::uint32_t parent = 0;
};

ext4_builder::ext4_builder(std::filesystem::path raw, ext4_handle fs)
    : raw_{std::move(raw)}, fs_{std::move(fs)}, content_{fs_.get()} {
  // nop
}

result<std::unique_ptr<ext4_builder>> ext4_builder::create(const std::filesystem::path& raw) {
  auto made = file::open(raw, O_RDWR | O_CREAT | O_EXCL, 0600);
  if (!made) {
    return made.error();
  }
  if (auto sized = made->set_size(limits::disk_bytes); !sized) {
    return sized.error();
  }
  auto fs = format_ext4(raw);
  if (!fs) {
    return fs.error();
  }
  // The number of /lost+found stays reserved for it.
  ext2fs_inode_alloc_stats2(fs->get(), lost_and_found_inode, +1, 1);
  return std::unique_ptr<ext4_builder>{new ext4_builder{raw, std::move(*fs)}};
}

// -- files
// -----------------------------------------------------------------------------------------

result<std::uint32_t> ext4_builder::allocate_inode(bool is_directory) {
  ext2_ino_t number = 0;
  if (!free_inodes_.empty()) {
    number = free_inodes_.back();
    free_inodes_.pop_back();
  } else {
    auto code = ext2fs_new_inode(fs_.get(), last_inode_, 0, nullptr, &number);
    if (code != 0) {
      return ext4_failure(code, "allocating an inode");
    }
    last_inode_ = number;
  }
  ext2fs_inode_alloc_stats2(fs_.get(), number, +1, is_directory ? 1 : 0);
  return number;
}

result<std::uint32_t> ext4_builder::write_new(ext4_inode& inode,
                                              const std::vector<extended_attribute>& xattrs) {
  auto number = allocate_inode(false);
  if (!number) {
    return number;
  }
  if (auto written = inode.write(fs_.get(), *number); !written) {
    return written.error();
  }
  const auto is_extents = (inode.fields.i_flags & EXT4_EXTENTS_FL) != 0;
  if (is_extents && content_.has_tree()) {
    if (auto written = content_.write_tree(*number, *inode.base()); !written) {
      return written.error();
    }
  }
  if (auto written = write_xattrs(fs_.get(), *number, xattrs); !written) {
    return written.error();
  }
  return number;
}

result<void> ext4_builder::begin_regular(const file_attributes& attributes) {
  content_.begin();
  open_file_ = attributes;
  return {};
}

result<void> ext4_builder::write(std::uint64_t offset_bytes, std::span<const std::byte> data) {
  return content_.append(offset_bytes, data);
}

result<std::uint32_t> ext4_builder::end_regular(std::uint64_t size_bytes) {
  if (content_.end_bytes() > size_bytes) {
    return fail(ec::damaged, "more content than the file's size says");
  }
  // The empty write at the end checks the size of a file that ends in a hole.
  if (auto checked = content_.append(size_bytes, {}); !checked) {
    return checked.error();
  }
  if (auto finished = content_.finish(); !finished) {
    return finished.error();
  }
  ext4_inode inode{LINUX_S_IFREG, *open_file_};
  inode.set_size(size_bytes);
  content_.fill(*inode.base());
  return write_new(inode, open_file_->xattrs);
}

result<std::uint32_t> ext4_builder::make_symlink(const file_attributes& attributes,
                                                 std::string_view target) {
  if (target.empty()) {
    return fail(ec::damaged, "symbolic link without a target");
  }
  if (target.size() > symlink_bytes_max) {
    return fail(ec::too_large, "symbolic link longer than 4095 bytes");
  }
  ext4_inode inode{LINUX_S_IFLNK, attributes};
  inode.fields.i_mode = LINUX_S_IFLNK | 0777;
  inode.set_size(target.size());
  if (target.size() < fast_symlink_bytes) {
    std::memcpy(inode.fields.i_block, target.data(), target.size());
    return write_new(inode, attributes.xattrs);
  }
  content_.begin();
  if (auto added = content_.append(0, std::as_bytes(std::span{target})); !added) {
    return added.error();
  }
  if (auto finished = content_.finish(); !finished) {
    return finished.error();
  }
  content_.fill(*inode.base());
  return write_new(inode, attributes.xattrs);
}

result<std::uint32_t> ext4_builder::make_special(file_kind kind, const file_attributes& attributes,
                                                 std::uint32_t device_major,
                                                 std::uint32_t device_minor) {
  ext4_inode inode{type_of(kind), attributes};
  if (kind != file_kind::fifo) {
    // Two encodings of device numbers: 8+8 bits in the first word, or 12+20 bits in the second.
    if (device_major < 256 && device_minor < 256) {
      inode.fields.i_block[0] = device_major << 8 | device_minor;
    } else {
      inode.fields.i_block[1] =
          (device_minor & 0xff) | device_major << 8 | (device_minor & ~0xffu) << 12;
    }
  }
  return write_new(inode, attributes.xattrs);
}

result<void> ext4_builder::remove(std::uint32_t number) {
  auto* fs = fs_.get();
  ext4_inode inode{0, {}};
  auto code = ext2fs_read_inode_full(fs, number, inode.base(), sizeof inode);
  if (code == 0 && ext2fs_inode_has_valid_blocks2(fs, inode.base()) != 0) {
    code = ext2fs_punch(fs, number, inode.base(), nullptr, 0, ~blk64_t{0});
  }
  if (code == 0) {
    code = ext2fs_free_ext_attr(fs, number, &inode.fields);
  }
  if (code != 0) {
    return ext4_failure(code, "removing inode " + std::to_string(number));
  }
  std::memset(static_cast<void*>(&inode), 0, sizeof inode);
  if (auto written = inode.write(fs, number); !written) {
    return written;
  }
  ext2fs_inode_alloc_stats2(fs, number, -1, 0);
  free_inodes_.push_back(number);
  has_removed_ = true;
  return {};
}

// -- names
// -----------------------------------------------------------------------------------------

result<void> ext4_builder::finish(const layer_tree& names) {
  links_written_.assign(fs_->super->s_inodes_count + 1, false);
  ext2fs_bg_used_dirs_count_set(fs_.get(), 0, ext2fs_bg_used_dirs_count(fs_.get(), 0) + 1);
  std::vector<pending_directory> pending{{&names.root(), EXT2_ROOT_INO, EXT2_ROOT_INO}};
  while (!pending.empty()) {
    const auto next = pending.back();
    pending.pop_back();
    if (auto written = write_directory(names, next, pending); !written) {
      return written;
    }
  }
  ext2fs_group_desc_csum_set(fs_.get(), 0);
  fs_->super->s_state |= EXT2_VALID_FS;
  ext2fs_mark_super_dirty(fs_.get());
  // Nothing here need be durable, so no fsync; turning the cache off writes what is left in it.
  auto code = ext2fs_flush2(fs_.get(), EXT2_FLAG_FLUSH_NO_SYNC);
  if (code == 0) {
    code = io_channel_set_options(fs_->io, "cache=off");
  }
  if (code != 0) {
    return ext4_failure(code, "writing " + raw_.string());
  }
  return has_removed_ ? punch_free_blocks() : result<void>{};
}

result<void> ext4_builder::write_directory(const layer_tree& names, const pending_directory& next,
                                           std::vector<pending_directory>& rest) {
  const bool is_root = next.number == EXT2_ROOT_INO;
  ext4_directory entries{next.number, next.parent};
  std::uint32_t subdirectories = 0;
  bool has_lost_and_found = false;
  for (const auto& [name, node] : next.names->children) {
    const bool is_lost_and_found = is_root && name == lost_and_found;
    has_lost_and_found |= is_lost_and_found;
    if (!node.folder) {
      if (is_lost_and_found) {
        ext2fs_inode_alloc_stats2(fs_.get(), lost_and_found_inode, -1, 1);
      }
      entries.add(name, node.file.number, node.file.kind);
      const auto links = names.links_of(node.file.number);
      if (links > 1 && !links_written_[node.file.number]) {
        links_written_[node.file.number] = true;
        if (auto written = set_links(node.file.number, links); !written) {
          return written;
        }
      }
      continue;
    }
    auto number = is_lost_and_found ? result<std::uint32_t>{std::uint32_t{lost_and_found_inode}}
                                    : allocate_inode(true);
    if (!number) {
      return number.error();
    }
    entries.add(name, *number, std::nullopt);
    rest.push_back({node.folder.get(), *number, next.number});
    ++subdirectories;
  }
  if (is_root && !has_lost_and_found) {
    static const layer_tree::directory empty{{0700, 0, 0, 0, 0, {}}, {}, 0};
    entries.add(lost_and_found, lost_and_found_inode, std::nullopt);
    rest.push_back({&empty, lost_and_found_inode, EXT2_ROOT_INO});
    ++subdirectories;
  }
  return write_directory_inode(next.number, next.names->attributes, subdirectories, entries);
}

result<void> ext4_builder::write_directory_inode(std::uint32_t number,
                                                 const file_attributes& attributes,
                                                 std::uint32_t subdirectories,
                                                 ext4_directory& entries) {
  ext4_inode inode{LINUX_S_IFDIR, attributes};
  const auto links = subdirectories + 2;
  inode.fields.i_links_count = static_cast<std::uint16_t>(links >= directory_links_max ? 1 : links);
  if (auto written = inode.write(fs_.get(), number); !written) {
    return written;
  }
  auto blocks = entries.finish(fs_.get());
  if (!blocks) {
    return blocks.error();
  }
  content_.begin();
  if (auto stored = content_.append_blocks(0, *blocks); !stored) {
    return stored;
  }
  inode.set_size(blocks->size());
  content_.fill(*inode.base());
  if (auto written = inode.write(fs_.get(), number); !written) {
    return written;
  }
  if (content_.has_tree()) {
    if (auto written = content_.write_tree(number, *inode.base()); !written) {
      return written;
    }
  }
  return write_xattrs(fs_.get(), number, attributes.xattrs);
}

result<void> ext4_builder::set_links(std::uint32_t number, std::uint32_t links) {
  ext2_inode inode{};
  auto code = ext2fs_read_inode(fs_.get(), number, &inode);
  if (code == 0) {
    inode.i_links_count = static_cast<std::uint16_t>(links);
    code = ext2fs_write_inode(fs_.get(), number, &inode);
  }
  if (code != 0) {
    return ext4_failure(code, "setting the links of inode " + std::to_string(number));
  }
  return {};
}

/// What replaced and hidden files left behind would else be in the image for ever.
result<void> ext4_builder::punch_free_blocks() {
  auto raw = file::open(raw_, O_RDWR);
  if (!raw) {
    return raw.error();
  }
  const auto last = ext2fs_blocks_count(fs_->super) - 1;
  blk64_t start = fs_->super->s_first_data_block;
  while (start <= last &&
         ext2fs_find_first_zero_block_bitmap2(fs_->block_map, start, last, &start) == 0) {
    blk64_t end = last + 1;
    if (ext2fs_find_first_set_block_bitmap2(fs_->block_map, start, last, &end) != 0) {
      end = last + 1;
    }
    const auto offset = static_cast<off_t>(start * ext4_block_bytes);
    const auto length = static_cast<off_t>((end - start) * ext4_block_bytes);
    if (::fallocate(raw->fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) != 0) {
      return io_failure(errno, "freeing the blocks of replaced files in " + raw_.string());
    }
    start = end;
  }
  return {};
}

} // namespace coppice::storage
