#include "storage/disk/cluster_map.hpp"

#include <algorithm>

namespace coppice::storage {

namespace {

/// What the cluster after one that says `file` has to say to go on with the same run.
cluster_number next_of(cluster_number file) {
  return file == cluster_map::absent || file == cluster_map::zeros ? file : file + 1;
}

} // namespace

cluster_number cluster_map::get(cluster_number guest) const {
  auto found = leaves_.find(guest / leaf_clusters);
  return found == leaves_.end() ? absent : (*found->second)[guest % leaf_clusters];
}

void cluster_map::set(cluster_number guest, cluster_number file) {
  auto& place = leaves_[guest / leaf_clusters];
  if (!place) {
    place = std::make_unique<leaf>();
  }
  (*place)[guest % leaf_clusters] = file;
}

cluster_number cluster_map::run_length(cluster_number guest, cluster_number count_max) const {
  auto expected = get(guest);
  cluster_number length = 0;
  while (length < count_max) {
    auto found = leaves_.find((guest + length) / leaf_clusters);
    auto at = (guest + length) % leaf_clusters;
    auto in_leaf = std::min(leaf_clusters - at, count_max - length);
    if (found == leaves_.end()) {
      if (expected != absent) {
        break;
      }
      length += in_leaf;
      continue;
    }
    for (auto end = at + in_leaf; at < end; ++at, ++length, expected = next_of(expected)) {
      if ((*found->second)[at] != expected) {
        return length;
      }
    }
  }
  return length;
}

std::vector<own_extent> cluster_map::extents() const {
  std::vector<own_extent> out;
  for (const auto& [number, content] : leaves_) {
    for (cluster_number at = 0; at < leaf_clusters; ++at) {
      auto file = (*content)[at];
      if (file == absent) {
        continue;
      }
      auto guest = number * leaf_clusters + at;
      if (!out.empty()) {
        auto& last = out.back();
        auto goes_on = last.file == zeros ? zeros : last.file + last.count;
        if (last.guest + last.count == guest && goes_on == file) {
          ++last.count;
          continue;
        }
      }
      out.push_back({guest, 1, file});
    }
  }
  return out;
}

std::size_t cluster_map::memory_bytes() const {
  return leaves_.size() * (sizeof(leaf) + 64); // 64: about what a node of the tree takes
}

} // namespace coppice::storage
