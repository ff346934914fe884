#pragma once

#include "storage/disk/extent.hpp"

#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <vector>

namespace coppice::storage {

/// What an overlay knows of its disk: where each cluster that the guest has written lies in the
/// overlay's file.
///
/// Problem: a disk of 64 GiB has 16 million clusters, of which a run touches a dozen or all. So the
/// map has a leaf for each 2 MiB that was touched (the region of one qcow2 L2 table), and costs
/// nothing elsewhere. Owner: one thread.
class cluster_map {
public:
  static constexpr cluster_number absent = 0; ///< cluster 0 of a file is its header
  static constexpr cluster_number zeros = own_extent::zeros;

  /// `absent`: the parent knows; `zeros`; or the cluster of the file.
  cluster_number get(cluster_number guest) const;

  void set(cluster_number guest, cluster_number file);

  /// How many clusters from `guest` on, at most `count_max`, go on with what `get(guest)` says: all
  /// absent, all zeros, or adjacent in the file.
  cluster_number run_length(cluster_number guest, cluster_number count_max) const;

  /// Everything that is not absent, by guest cluster, adjacent runs merged.
  std::vector<own_extent> extents() const;

  std::size_t memory_bytes() const;

private:
  static constexpr cluster_number leaf_clusters = 512;
  using leaf = std::array<cluster_number, leaf_clusters>;

  std::map<cluster_number, std::unique_ptr<leaf>> leaves_; ///< by guest cluster / leaf_clusters
};

} // namespace coppice::storage
