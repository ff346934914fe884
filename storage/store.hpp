#pragma once

#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/stored_blob.hpp"

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>

namespace coppice::storage {

/// The files of one node's store.
///
/// Problem: images must be immutable, survive power cuts and never be confused with work in
/// progress. Layout below the state folder:
///
///   lock                     held (flock) by the one daemon; contains its pid
///   images/<image>.qcow2     sealed, read-only, backed by <parent>.qcow2 beside it
///   images/<image>.overlay   being written by a VM, or made by an import; backing name as above,
///                            so the seal's rename keeps it true; removed at start
///   blobs/<sha256>           uploaded files, 64 hex digits
///   uploads/<number>         uploads in progress; removed at start
///   tmp/                     scratch of imports; emptied at start
///   catalog/                 LMDB (storage/catalog.hpp)
///
/// What writes to them, but for LMDB, is the engine (storage/disk/engine.hpp); here are their names
/// and what is done before it starts.
///
/// Guarantee: a file images/*.qcow2 or in blobs/ is whole and durable. It counts once the catalog
/// has its record; files without one are removed by `remove_leftovers`. Paths
/// may be asked for by any thread.
class store {
public:
  using sha256 = stored_blob::sha256;

  /// Creates missing folders (mode 0700) and takes the lock. in_use: names the first daemon's pid.
  static result<std::unique_ptr<store>> open(const std::filesystem::path& state_dir);

  ~store();
  store(const store&) = delete;
  store& operator=(const store&) = delete;

  // -- paths -------------------------------------------------------------------------------------

  /// Where an import leaves the file of an image; the engine's overlays have the same names.
  std::filesystem::path overlay_path(const uuid& overlay) const;

  /// Where a sealed image's file is.
  std::filesystem::path image_path(const uuid& image) const;

  /// For engine::options: stored files, and uploads in progress.
  std::filesystem::path blobs_path() const;
  std::filesystem::path uploads_path() const;

  // -- start -------------------------------------------------------------------------------------

  /// Removes everything in uploads/ and tmp/, from images/ overlays and images for which
  /// `has_record` is false, and blobs for which `has_blob_record` is. Returns how many were
  /// removed. Called once, before any other work.
  result<std::size_t> remove_leftovers(const std::function<bool(const uuid&)>& has_record,
                                       const std::function<bool(const sha256&)>& has_blob_record);

private:
  struct impl;
  explicit store(std::unique_ptr<impl> state);
  std::unique_ptr<impl> impl_;
};

} // namespace coppice::storage
