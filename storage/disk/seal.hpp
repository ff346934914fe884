#pragma once

#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/disk/block_index.hpp"
#include "storage/disk/directory_sync.hpp"
#include "storage/disk/overlay.hpp"
#include "storage/ring/ring.hpp"
#include "storage/ring/task.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>

namespace coppice::storage {

/// What becomes of a disk that has only what its parent has.
enum class unchanged_disk {
  is_parent, ///< no file: it is the image that its parent is
  is_kept    ///< an image of its own all the same, as where its record differs from its parent's
};

/// What a seal gives.
struct sealed_image {
  bool is_unchanged = false;                ///< nothing but mount bookkeeping, and not kept
  std::shared_ptr<const block_index> index; ///< of the new image; null when unchanged
  std::uint64_t own_bytes = 0;              ///< allocated on disk
};

/// Turns an overlay into the immutable file of an image.
///
/// Problem: what a run has left must survive a power cut the moment that a client hears of it, cost
/// no more than what it changed, and be readable by any qcow2 tool. The order:
///
///   1. the ext4 superblock says "cleanly unmounted" (not_clean, damaged)
///   2. clusters that are zeros or equal to the parent's are given back; nothing left but what a
///      mount writes into the superblock: unchanged, the file is removed (unless it is_kept)
///   3. tables and checksums, then one sync of the file; then its name in `images`, then one sync
///      of the folder, shared by all who wait
///
/// Guarantee: on success the file is whole and durable under its name; it counts once the catalog
/// has its record. On failure nothing is under that name; the overlay's file may still be under its
/// old one, for discard.
/// The overlay must be closed to its guest, with nothing in the air. A disk that was refused
/// anything is not sealed: the failure is the overlay's trouble() (too_large: beyond its limit).
/// `parent` nil: the image is the first of its tree.
task<result<sealed_image>> seal(ring& on, overlay& disk, const uuid& parent,
                                std::filesystem::path image_file, directory_sync& images,
                                unchanged_disk unchanged = unchanged_disk::is_parent);

} // namespace coppice::storage
