#pragma once

#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/block_source.hpp"
#include "storage/disk/seal.hpp"

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace coppice::storage {

/// The files of one node's store.
///
/// Problem: images must be immutable, survive power cuts and never be confused with work in
/// progress. Layout below the state folder:
///
///   lock                     held (flock) by the one daemon; contains its pid
///   images/<image>.qcow2     sealed, read-only, backed by <parent>.qcow2 beside it
///   images/<image>.overlay   being written by a VM or an import, which may put scratch files with
///                            longer names beside it; backing name as above, so the seal's rename
///                            keeps it true; removed at start
///   blobs/<sha256>           uploaded files, 64 hex digits
///   uploads/<number>         uploads in progress; removed at start
///   tmp/                     scratch of imports; emptied at start
///   catalog/                 LMDB (storage/catalog.hpp)
///
/// Guarantee: a file images/*.qcow2 or in blobs/ is whole and durable. It counts once the catalog
/// has its record; files without one are removed by `remove_leftovers`. Owner: the store actor; one
/// thread at a time.
class store {
public:
  using sha256 = std::array<unsigned char, 32>;

  /// Creates missing folders (mode 0700) and takes the lock. in_use: names the first daemon's pid.
  static result<std::unique_ptr<store>> open(const std::filesystem::path& state_dir);

  ~store();
  store(const store&) = delete;
  store& operator=(const store&) = delete;

  // -- overlays and images -----------------------------------------------------------------------

  /// Where an import leaves the file of an image; the engine's overlays have the same names.
  std::filesystem::path overlay_path(const uuid& overlay) const;

  /// Where a sealed image's file is.
  std::filesystem::path image_path(const uuid& image) const;

  /// Makes the file that an import has left the immutable one of its image. Believes nothing of it:
  /// it must be what qcow2/sealed_file.hpp describes, without a parent, and its ext4 superblock
  /// must say clean; then file durable, rename, folder durable. damaged, not_clean, not_found.
  result<sealed_image> seal_import(const uuid& image);

  /// Removes overlay and unrecorded sealed file of that id; what is not there is fine.
  result<void> discard(const uuid& overlay);

  // -- blobs -------------------------------------------------------------------------------------

  struct stored_blob {
    sha256 digest{};
    std::uint64_t size_bytes = 0;
  };

  /// Starts an upload and gives its number.
  result<std::uint64_t> begin_blob();
  /// too_large: beyond `blob_bytes_max`; the upload is then gone. not_found: no such upload.
  result<void> append_blob(std::uint64_t upload, std::span<const std::byte> data);
  /// Durable under its digest; the same bytes twice are stored once.
  result<stored_blob> finish_blob(std::uint64_t upload);
  void abort_blob(std::uint64_t upload);
  /// Up to `bytes_max` from `offset_bytes`; empty at the end. not_found.
  result<std::vector<std::byte>> read_blob(const sha256& digest, std::uint64_t offset_bytes,
                                           std::size_t bytes_max);

  void set_blob_bytes_max(std::uint64_t bytes);

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
