#pragma once

#include "protocol/result.hpp"
#include "storage/catalog.hpp"

#include <cstdint>
#include <filesystem>
#include <functional>

namespace coppice::storage {

/// What a backup has.
struct backup_summary {
  std::uint64_t images = 0;
  std::uint64_t blobs = 0;
  std::uint64_t copied_bytes = 0; ///< of files, without holes
  std::uint64_t catalog_bytes = 0;
  unsigned rounds = 0; ///< how often the catalog was copied: images were deleted meanwhile
};

struct backup_options {
  /// Each round after the first copies only what is new. Beyond so many: conflict.
  unsigned rounds_max = 10;
  /// For tests: what others do to the store between the catalog's copy and the files'.
  std::function<void(unsigned round)> after_catalog;
};

/// Copies a store into a new state folder, while a daemon may be at work on it.
///
/// Problem: the catalog and the files change all the time, and a copy of one moment of the catalog
/// needs the files of that moment. So the catalog is copied first. Whatever it names is then
/// durable and does not change, but for images that are deleted afterwards: their files may go
/// away, or lose clusters that only they showed. Hence
///
///   1. the catalog, as it is in one commit, to catalog.partial
///   2. the files and uploads that it names and that are not there yet
///   3. if an image that it names is gone by now: from 1. What has been copied stays good, since a
///      later catalog names only what was whole when it was copied, or was punched for it
///   4. what an earlier round had copied and this catalog does not name is removed; catalog.partial
///      becomes catalog
///
/// Guarantee: on success all is durable, and a daemon that is started on `target` has every image,
/// tag, file, token and operation of one moment; what was running then ends there as FAILED. On
/// failure nothing is left in `target`.
///
/// conflict: `target` has something in it, or images are deleted faster than it can copy.
/// `live`: the catalog of `state_dir`.
result<backup_summary> backup(const catalog& live, const std::filesystem::path& state_dir,
                              const std::filesystem::path& target, const backup_options& how = {});

} // namespace coppice::storage
