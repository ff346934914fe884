#pragma once

#include "protocol/result.hpp"
#include "storage/ext4_content.hpp"
#include "storage/ext4_format.hpp"
#include "storage/ext4_inode.hpp"
#include "storage/layer_files.hpp"
#include "storage/layer_tree.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

namespace coppice::storage {

/// Makes the ext4 of an image: files as the layers bring them, directories when all names are
/// known.
///
/// Guarantee: after `finish` the raw file holds a file system that e2fsck finds nothing to say
/// about, marked as cleanly unmounted; content of files that did not survive the layers is not in
/// it. Before that it is worth nothing. Needs no privilege and mounts nothing. Owner: one thread.
class ext4_builder final : public file_sink {
public:
  /// Makes the raw file, sparse, of limits::disk_bytes. conflict: it exists.
  static result<std::unique_ptr<ext4_builder>> create(const std::filesystem::path& raw);

  result<void> begin_regular(const file_attributes& attributes) override;
  result<void> write(std::uint64_t offset_bytes, std::span<const std::byte> data) override;
  result<std::uint32_t> end_regular(std::uint64_t size_bytes) override;
  result<std::uint32_t> make_symlink(const file_attributes& attributes,
                                     std::string_view target) override;
  result<std::uint32_t> make_special(file_kind kind, const file_attributes& attributes,
                                     std::uint32_t device_major,
                                     std::uint32_t device_minor) override;
  result<void> remove(std::uint32_t file) override;

  /// Writes the names and closes the file system. The builder is of no use afterwards.
  result<void> finish(const layer_tree& names);

private:
  struct pending_directory;

  ext4_builder(std::filesystem::path raw, ext4_handle fs);

  result<std::uint32_t> allocate_inode(bool is_directory);
  result<std::uint32_t> write_new(ext4_inode& inode, const std::vector<extended_attribute>& xattrs);
  result<void> write_directory(const layer_tree& names, const pending_directory& next,
                               std::vector<pending_directory>& rest);
  result<void> write_directory_inode(std::uint32_t number, const file_attributes& attributes,
                                     std::uint32_t subdirectories, class ext4_directory& entries);
  result<void> set_links(std::uint32_t file, std::uint32_t links);
  result<void> punch_free_blocks();

  std::filesystem::path raw_;
  ext4_handle fs_;
  ext4_content content_;
  std::optional<file_attributes> open_file_;
  std::uint32_t last_inode_ = lost_and_found_inode;
  std::vector<std::uint32_t> free_inodes_;
  std::vector<bool> links_written_;
  bool has_removed_ = false;
};

} // namespace coppice::storage
