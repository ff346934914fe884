#pragma once

#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/disk/extent.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace coppice::storage {

/// Where each cluster of an image's disk lies: in which sealed file, and where in it.
///
/// Problem: finding a block by walking a chain of a thousand files costs a thousand look-ups, and
/// an index of the whole disk for each image would cost more than what the image changed. So an
/// index has two levels at most: a *checkpoint*, the whole disk at some ancestor (or at the image
/// itself), and the *changes* since then, merged. A child's changes are its parent's plus its own;
/// when they would exceed a share of the checkpoint, the child becomes a checkpoint.
///
/// Guarantee: `find` costs two binary searches at any depth. Bytes per image, stored and in memory,
/// are at most its share plus its part in the next checkpoint, whatever the size of the base.
/// Immutable: any thread. The checkpoint is shared by all that stand on it.
class block_index {
public:
  /// A run of the disk in one place.
  struct run {
    cluster_number count = 0;        ///< how many clusters it has
    const uuid* file = nullptr;      ///< the image in whose file they are; null: zeros
    cluster_number file_cluster = 0; ///< the first of them there
  };

  /// The index of an image without a parent, a checkpoint. `own`: sorted by guest cluster,
  /// disjoint.
  static std::shared_ptr<const block_index> of_import(const uuid& image,
                                                      std::span<const own_extent> own);

  /// The index of a child that has changed `own` (sorted, disjoint).
  static std::shared_ptr<const block_index> of_child(std::shared_ptr<const block_index> parent,
                                                     const uuid& image,
                                                     std::span<const own_extent> own);

  /// The run at `guest`, at most `count_max` clusters (at least 1) of it. What nobody ever wrote
  /// is zeros. The pointer is good as long as this index.
  run find(cluster_number guest, cluster_number count_max) const;

  /// The image at which the checkpoint was made; nil while this is one itself.
  const uuid& checkpoint() const;

  /// What is stored for it in the catalog: its own level only, without the checkpoint.
  std::vector<std::byte> encode() const;

  /// The opposite. `image`: whose index it is; `checkpoint`: what `checkpoint()` named, or null.
  /// Believes nothing: damaged, with what is wrong.
  static result<std::shared_ptr<const block_index>>
  decode(const uuid& image, std::span<const std::byte> bytes,
         std::shared_ptr<const block_index> checkpoint);

  /// Memory of its own level.
  std::size_t memory_bytes() const;

  /// Calls `each(guest, run)` for every run of data of the whole disk, in order of guest clusters.
  template <class Each>
  void for_each(Each&& each) const {
    for (cluster_number at = 0; at < end();) {
      auto r = find(at, end() - at);
      if (r.file) {
        each(at, r);
      }
      at += r.count;
    }
  }

  /// The cluster behind the last one that has data.
  cluster_number end() const;

  /// How many clusters of the disk have data, and how many of these are in the image's own file.
  /// The work is a walk over the own level, and over its checkpoint's.
  struct counts {
    std::uint64_t data = 0;
    std::uint64_t own = 0;
  };
  counts count() const;

  /// Changes may take this share of their checkpoint's bytes, or `changes_bytes_min`, before the
  /// next checkpoint is made.
  static constexpr double changes_share_max = 0.25;
  static constexpr std::size_t changes_bytes_min = 4096;

  ~block_index();
  block_index(const block_index&) = delete;
  block_index& operator=(const block_index&) = delete;

private:
  struct impl;
  explicit block_index(std::unique_ptr<const impl> state);
  std::unique_ptr<const impl> impl_;
};

} // namespace coppice::storage
