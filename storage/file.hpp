#pragma once

#include "protocol/result.hpp"

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

/// Files of the store.
///
/// Problem: short writes, interrupted calls, forgotten directory syncs and lost errno values are
/// the usual ways to lose data quietly. So the store's own code touches files only through here.
///
/// Guarantee: a call does all of what it says or fails with path and errno in the text
/// (storage::io_failure). Descriptors close on exec and never follow a symbolic link in the last
/// component of a path.
namespace coppice::storage {

/// An open file: owns its descriptor.
class file {
public:
  /// `flags` as for open(2). not_found, conflict (O_EXCL and it exists), no_space, io.
  static result<file> open(const std::filesystem::path& path, int flags, mode_t mode = 0600);

  file(file&& other) noexcept;
  file& operator=(file&& other) noexcept;
  ~file();

  int fd() const {
    return fd_;
  }
  const std::filesystem::path& path() const {
    return path_;
  }

  result<std::uint64_t> size_bytes() const;

  /// What it takes on disk, holes not counted.
  result<std::uint64_t> allocated_bytes() const;

  /// Reads until `out` is full or the file ends; gives how many bytes.
  result<std::size_t> read_at(std::uint64_t offset_bytes, std::span<std::byte> out) const;

  result<void> write_at(std::uint64_t offset_bytes, std::span<const std::byte> data);

  result<void> set_size(std::uint64_t size_bytes);
  result<void> set_mode(mode_t mode);

  /// Content and attributes are on the disk when it returns.
  result<void> sync();

private:
  file(int fd, std::filesystem::path path);

  int fd_;
  std::filesystem::path path_;
};

/// Names in the directory are on the disk when it returns.
result<void> sync_directory(const std::filesystem::path& directory);

/// Renames and makes both directories (or the one) durable. conflict: `to` exists; it is not
/// touched.
result<void> move_durably(const std::filesystem::path& from, const std::filesystem::path& to);

/// False where there was nothing to remove.
result<bool> remove_file(const std::filesystem::path& path);

} // namespace coppice::storage
