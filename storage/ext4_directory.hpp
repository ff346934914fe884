#pragma once

#include "protocol/result.hpp"
#include "storage/layer_files.hpp"

#include <ext2fs/ext2fs.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace coppice::storage {

/// The blocks of one new directory, built in one pass.
///
/// Problem: ext2fs_link looks for room from the first block at each name, which makes a large
/// directory cost the square of its size. Here all names are known before the first is written.
/// The directory has no hash index; kernels read such directories and keep them so.
class ext4_directory {
public:
  /// Begins with `.` and `..`.
  ext4_directory(std::uint32_t number, std::uint32_t parent);

  /// Absent kind: a directory. The name is at most 255 bytes.
  void add(std::string_view name, std::uint32_t number, std::optional<file_kind> kind);

  /// Whole blocks with checksums, for the inode that the constructor named, which must be on the
  /// disk already: its generation is part of the checksum.
  result<std::span<const std::byte>> finish(ext2_filsys fs);

private:
  void add_entry(std::string_view name, std::uint32_t number, std::uint8_t type);
  void close_block();

  std::uint32_t number_;
  std::vector<std::byte> blocks_;
  std::size_t used_ = 0;       ///< bytes of the last block
  std::size_t last_entry_ = 0; ///< offset in blocks_
};

} // namespace coppice::storage
