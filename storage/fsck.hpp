#pragma once

#include "protocol/result.hpp"
#include "storage/catalog.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace coppice::storage {

/// What fsck has looked at and found.
struct fsck_summary {
  std::uint64_t images = 0;        ///< with a record
  std::uint64_t deleted_files = 0; ///< files of deleted images that others stand on
  std::uint64_t file_bytes = 0;    ///< that the files take on disk
  std::uint64_t overlays = 0;      ///< of runs that are under way
  std::uint64_t uploads = 0;       ///< records; projects may share a file
  std::uint64_t upload_bytes = 0;
  std::uint64_t scrubbed_bytes = 0; ///< data whose checksum was compared
  std::uint64_t catalog_rows = 0;   ///< held against those that they belong to
  bool are_totals_counted = true;   ///< false: too much was committed meanwhile, each time
  std::uint64_t problems = 0;
};

struct fsck_options {
  bool scrub = false; ///< compare all data with its checksums and digests
  /// Whether a daemon is at work on the store: asked when something looks wrong.
  std::function<bool()> is_daemon_running = [] {
    return false;
  };
  /// What a daemon has begun counts as wrong only after this.
  std::chrono::seconds patience{5};
  /// Lets time pass while something that looks wrong may come right. For tests.
  std::function<void()> wait;
  /// Behind the view in which totals are counted; then it is given up. A commit seldom frees more
  /// than 100 KiB, which that view keeps from being used again until it ends.
  std::uint64_t commits_behind_max = 4096;
  /// So many totals are counted in one walk; a few hundred bytes each.
  std::size_t projects_at_once = 32'768;
  /// After each page of the catalog's rows. For tests.
  std::function<void()> at_page;
};

/// Proves a store, or says exactly what is wrong in it. Changes nothing.
///
/// Problem: a proof must not need a quiet store, nor memory for a million images, and must not cry
/// wolf on a file that a daemon is just making or removing.
///
/// Looked at: every file that the catalog knows is there, has mode 0400, is what qcow2/
/// sealed_file.hpp describes, and names the parent that the catalog names; every parent has a file
/// again; every live image has a block index, and it is what its file's tables and its parent's
/// index give; every upload is there with its size; nothing else lies in images/ and blobs/ (but
/// overlays while a daemon runs). Of the catalog's own tables: every record has its rows in each
/// listing, every row belongs to a record that says so, tags and lineage agree in both directions,
/// names of requests stand for operations that are there and will be forgotten, and the totals of
/// projects are the sums of their records (storage/fsck_records.hpp). With
/// `scrub` also the checksum of every cluster that any image can still see, and every upload's
/// digest.
///
/// Guarantee: the catalog is read a page at a time, and each page is the state of one moment. What
/// looks wrong is looked at again with the catalog of that later moment, and told only if it still
/// is. Memory: pages, one file's tables, and a bounded cache of indexes.
///
/// `tell` gets one line for each problem: file or record, what, and where in it.
/// A failure means that it could not look (io, or the catalog is damaged).
result<fsck_summary> fsck(const catalog& records, const std::filesystem::path& state_dir,
                          const fsck_options& how,
                          const std::function<void(const std::string&)>& tell);

} // namespace coppice::storage
