#pragma once

#include "storage/disk/extent.hpp"

#include <map>
#include <utility>
#include <vector>

namespace coppice::storage {

/// Which clusters of an overlay's file are in use.
///
/// Problem: new clusters are appended, but a guest that writes and trims for hours must not make
/// the file, and with it the tables of the sealed image, grow without end. So trimmed clusters are
/// used again.
///
/// Guarantee: a cluster that was given back is not given out while a request that began before is
/// still in the air (`settle` says when there is none): a late write cannot meet its new owner.
class space {
public:
  /// The file's first clusters, before `begin`, are not ours to give.
  explicit space(cluster_number begin) : end_{begin} {}

  /// A run of 1 to `count_max` clusters.
  std::pair<cluster_number, cluster_number> take(cluster_number count_max);

  void give_back(cluster_number first, cluster_number count);

  /// No request is in the air.
  void settle();

  /// Clusters in use.
  std::uint64_t used() const {
    return used_;
  }
  /// The cluster behind the last one that was ever in use.
  cluster_number end() const {
    return end_;
  }

private:
  std::map<cluster_number, cluster_number> free_; ///< first cluster of each run -> its length
  std::vector<std::pair<cluster_number, cluster_number>> unsettled_;
  cluster_number end_;
  std::uint64_t used_ = 0;
};

} // namespace coppice::storage
