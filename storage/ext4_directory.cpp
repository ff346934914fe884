#include "storage/ext4_directory.hpp"

#include "storage/ext4_failure.hpp"
#include "storage/ext4_format.hpp"

#include <cstring>

namespace coppice::storage {

namespace {

/// Fixed part of an entry: inode, record length, name length, type.
constexpr std::size_t entry_head_bytes = 8;

/// Room for entries: the checksum lies behind them, dressed as an unused entry.
constexpr std::size_t room_bytes = ext4_block_bytes - sizeof(ext2_dir_entry_tail);

std::uint8_t type_of(std::optional<file_kind> kind) {
  if (!kind) {
    return EXT2_FT_DIR;
  }
  switch (*kind) {
  case file_kind::regular:
    return EXT2_FT_REG_FILE;
  case file_kind::symlink:
    return EXT2_FT_SYMLINK;
  case file_kind::character_device:
    return EXT2_FT_CHRDEV;
  case file_kind::block_device:
    return EXT2_FT_BLKDEV;
  case file_kind::fifo:
    return EXT2_FT_FIFO;
  }
  return EXT2_FT_UNKNOWN;
}

template <class T>
void put(std::vector<std::byte>& out, std::size_t offset, T value) {
  std::memcpy(out.data() + offset, &value, sizeof value);
}

} // namespace

ext4_directory::ext4_directory(std::uint32_t number, std::uint32_t parent)
    : number_{number}, blocks_(ext4_block_bytes) {
  add_entry(".", number, EXT2_FT_DIR);
  add_entry("..", parent, EXT2_FT_DIR);
}

void ext4_directory::add(std::string_view name, std::uint32_t number,
                         std::optional<file_kind> kind) {
  add_entry(name, number, type_of(kind));
}

void ext4_directory::add_entry(std::string_view name, std::uint32_t number, std::uint8_t type) {
  const auto length = (entry_head_bytes + name.size() + 3) & ~std::size_t{3};
  if (used_ + length > room_bytes) {
    close_block();
    blocks_.resize(blocks_.size() + ext4_block_bytes);
    used_ = 0;
  }
  last_entry_ = blocks_.size() - ext4_block_bytes + used_;
  put(blocks_, last_entry_, number);
  put(blocks_, last_entry_ + 4, static_cast<std::uint16_t>(length));
  put(blocks_, last_entry_ + 6, static_cast<std::uint8_t>(name.size()));
  put(blocks_, last_entry_ + 7, type);
  std::memcpy(blocks_.data() + last_entry_ + entry_head_bytes, name.data(), name.size());
  used_ += length;
}

/// The last entry reaches to the checksum.
void ext4_directory::close_block() {
  const auto block_start = blocks_.size() - ext4_block_bytes;
  put(blocks_, last_entry_ + 4, static_cast<std::uint16_t>(block_start + room_bytes - last_entry_));
  put(blocks_, block_start + room_bytes + 4,
      static_cast<std::uint16_t>(sizeof(ext2_dir_entry_tail)));
  put(blocks_, block_start + room_bytes + 6, static_cast<std::uint16_t>(EXT2_DIR_NAME_LEN_CSUM));
}

result<std::span<const std::byte>> ext4_directory::finish(ext2_filsys fs) {
  close_block();
  for (std::size_t block = 0; block < blocks_.size(); block += ext4_block_bytes) {
    auto code = ext2fs_dir_block_csum_set(
        fs, number_, reinterpret_cast<ext2_dir_entry*>(blocks_.data() + block));
    if (code != 0) {
      return ext4_failure(code, "checksum of directory inode " + std::to_string(number_));
    }
  }
  return std::span<const std::byte>{blocks_};
}

} // namespace coppice::storage
