#pragma once

#include "protocol/result.hpp"
#include "storage/block_source.hpp"

#include <ext2fs/ext2fs.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Reading an ext4 that a hostile guest wrote.
///
/// Problem: every number on that disk may be a lie: sizes, block numbers, tree depths, inode
/// numbers, names. libext2fs reads inodes and extent trees (with their checksums); what decides how
/// much is read, how deep and how often is decided here.
/// Guarantee: nothing outside the disk is read, every loop is bounded by what is asked for or a
/// limit below, and what contradicts itself is `damaged`. Directories are read as plain lists of
/// entries; their hash index is never followed, so it cannot mislead. One thread at a time.
/// A file's size is its own claim: 16 TiB may stand on a single block. Who goes through a file does
/// it piece by piece, and looks at the clock between them.
namespace coppice::storage::inspection {

/// All of an image's inodes (4,194,304) with names of 255 bytes in one directory: about 1.1 GiB.
inline constexpr std::uint64_t directory_bytes_max = 5ull << 28;
/// No kernel leaves holes in a directory; a gigabyte of them would only keep us reading.
inline constexpr std::uint64_t directory_hole_bytes_max = 128ull << 20;

/// Directory blocks read to resolve one path: several of the largest real directories.
inline constexpr std::uint64_t lookup_blocks_max = 1u << 20;

inline constexpr int symlink_hops_max = 40; // as the kernel
inline constexpr std::size_t path_bytes_max = 4096;

struct fs_closer {
  void operator()(ext2_filsys fs) const {
    ext2fs_free(fs);
  }
};

struct file_inode {
  std::uint32_t number = 0;
  ext2_inode_large fields{};

  std::uint64_t size_bytes() const {
    return std::uint64_t{fields.i_size_high} << 32 | fields.i_size;
  }
  bool is_directory() const {
    return LINUX_S_ISDIR(fields.i_mode);
  }
  bool is_regular() const {
    return LINUX_S_ISREG(fields.i_mode);
  }
  bool is_symlink() const {
    return LINUX_S_ISLNK(fields.i_mode);
  }
  std::int64_t mtime_unix_s() const;
  std::uint32_t uid() const {
    return fields.i_uid | std::uint32_t{fields.osd2.linux2.l_i_uid_high} << 16;
  }
  std::uint32_t gid() const {
    return fields.i_gid | std::uint32_t{fields.osd2.linux2.l_i_gid_high} << 16;
  }
};

class file_system {
public:
  static result<std::unique_ptr<file_system>> open(std::unique_ptr<block_source> source);

  /// damaged: no such inode, not in use, or its checksum is wrong.
  result<file_inode> inode(std::uint32_t number);

  ext2_filsys handle() const {
    return fs_.get();
  }
  std::uint32_t block_bytes() const {
    return fs_->blocksize;
  }
  std::uint64_t block_count() const {
    return ext2fs_blocks_count(fs_->super);
  }
  block_source& source() const {
    return *source_;
  }

private:
  explicit file_system(std::unique_ptr<block_source> source);

  std::unique_ptr<block_source> source_; // outlives fs_, which reads through it
  std::unique_ptr<struct_ext2_filsys, fs_closer> fs_;
};

/// The content of a file, directory or long symbolic link.
class content_reader {
public:
  static result<std::unique_ptr<content_reader>> open(file_system& fs, const file_inode& inode);

  ~content_reader();
  content_reader(const content_reader&) = delete;
  content_reader& operator=(const content_reader&) = delete;

  /// Fills `out`, which must lie within the file's size; holes are zeros.
  result<void> read(std::uint64_t offset_bytes, std::span<std::byte> out);

  struct piece {
    std::uint64_t disk_offset_bytes = 0; ///< 0: a hole, which reads as zeros
    std::uint64_t bytes = 0;             ///< at least 1
  };
  /// Where the bytes at an offset of the file are: as far as they are in one place, at most
  /// `bytes_max`. Inside the file system.
  result<piece> find(std::uint64_t offset_bytes, std::uint64_t bytes_max);

private:
  struct run {
    std::uint64_t first_block = 0; ///< 0: a hole
    std::uint64_t count = 1;
  };

  content_reader(file_system& fs, const file_inode& inode);
  result<run> map(std::uint64_t block);
  std::uint64_t hole_blocks(std::uint64_t block);

  file_system& fs_;
  file_inode inode_;
  ext2_extent_handle_t extents_ = nullptr;
};

struct name_entry {
  std::string name;
  std::uint32_t number = 0;
};

/// The names in a directory, without . and .., in the order of the disk.
class directory_reader {
public:
  static result<std::unique_ptr<directory_reader>> open(file_system& fs, const file_inode& inode);

  /// Absent at the end.
  result<std::optional<name_entry>> next();

  std::uint64_t blocks_read() const {
    return next_block_;
  }

private:
  directory_reader(std::unique_ptr<content_reader> content, std::uint64_t blocks,
                   std::uint32_t block_bytes);
  result<std::optional<name_entry>> parse();

  std::unique_ptr<content_reader> content_;
  std::uint64_t blocks_;
  std::uint64_t next_block_ = 0;
  std::uint64_t hole_bytes_ = 0; ///< met so far
  std::vector<std::byte> block_;
  std::size_t offset_; ///< in block_; its size: read the next
};

/// The target of a symbolic link.
result<std::string> read_symlink(file_system& fs, const file_inode& inode);

/// What a path leads to: every link followed, `..` and absolute targets inside the image's root.
/// not_found: so is a path through something that is not a directory.
result<file_inode> resolve(file_system& fs, std::string_view path);

} // namespace coppice::storage::inspection
