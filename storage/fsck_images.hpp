#pragma once

#include "storage/catalog.hpp"
#include "storage/disk/index_cache.hpp"
#include "storage/qcow2/sealed_file.hpp"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace coppice::storage {

/// Looks at the files of images, one at a time, for fsck.
class image_checker {
public:
  image_checker(const catalog& records, std::filesystem::path images, bool scrub);

  struct findings {
    std::vector<std::string> problems; ///< one line each
    std::uint64_t allocated_bytes = 0;
    std::uint64_t scrubbed_bytes = 0;
  };

  /// `row`: what the catalog says of the file right now. A failure: it could not look.
  result<findings> check(const catalog::file_row& row);

private:
  using index_pointer = std::shared_ptr<const block_index>;

  void check_place(const catalog::file_row& row, findings& out) const;
  result<void> check_index(const catalog::file_row& row, const qcow2::sealed_content& content,
                           findings& out);
  result<void> check_data(const catalog::file_row& row, const qcow2::byte_source& bytes,
                          const qcow2::sealed_content& content, findings& out);
  result<index_pointer> index_of(uuid image);
  std::filesystem::path file_of(const uuid& image) const;

  const catalog& records_;
  std::filesystem::path images_;
  bool scrub_;
  index_cache stored_; ///< as in the catalog
  index_cache made_;   ///< of the files' own tables, where the catalog has none
};

} // namespace coppice::storage
