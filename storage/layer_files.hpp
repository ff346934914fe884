#pragma once

#include "protocol/result.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace coppice::storage {

struct extended_attribute {
  std::string name; ///< with its namespace: security.capability
  std::vector<std::byte> value;
};

struct file_attributes {
  std::uint32_t permissions = 0755; ///< mode without the file's type
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int64_t mtime_unix_s = 0;
  std::uint32_t mtime_ns = 0;
  std::vector<extended_attribute> xattrs;
};

enum class file_kind : std::uint8_t { regular, symlink, character_device, block_device, fifo };

/// A file without its names. `number` is the sink's own (an inode number).
struct file_reference {
  std::uint32_t number = 0;
  file_kind kind = file_kind::regular;
};

/// Where the files of an image go while its layers are read: ext4, or nowhere in a fuzz test.
/// Failures are final: the import ends.
class file_sink {
public:
  virtual ~file_sink() = default;

  /// Starts a regular file; then `write` at growing offsets, then `end_regular`. One at a time.
  virtual result<void> begin_regular(const file_attributes& attributes) = 0;
  virtual result<void> write(std::uint64_t offset_bytes, std::span<const std::byte> data) = 0;
  virtual result<std::uint32_t> end_regular(std::uint64_t size_bytes) = 0;

  virtual result<std::uint32_t> make_symlink(const file_attributes& attributes,
                                             std::string_view target) = 0;
  virtual result<std::uint32_t> make_special(file_kind kind, const file_attributes& attributes,
                                             std::uint32_t device_major,
                                             std::uint32_t device_minor) = 0;

  /// The file has no name any more.
  virtual result<void> remove(std::uint32_t file) = 0;
};

} // namespace coppice::storage
