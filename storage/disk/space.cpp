#include "storage/disk/space.hpp"

#include <algorithm>
#include <iterator>

namespace coppice::storage {

std::pair<cluster_number, cluster_number> space::take(cluster_number count_max) {
  if (free_.empty()) {
    auto first = end_;
    end_ += count_max;
    used_ += count_max;
    return {first, count_max};
  }
  auto run = free_.begin();
  auto [first, length] = *run;
  auto count = std::min(length, count_max);
  free_.erase(run);
  if (count < length) {
    free_.emplace(first + count, length - count);
  }
  used_ += count;
  return {first, count};
}

void space::give_back(cluster_number first, cluster_number count) {
  unsettled_.emplace_back(first, count);
  used_ -= count;
}

void space::settle() {
  for (auto [first, count] : std::exchange(unsettled_, {})) {
    auto next = free_.lower_bound(first);
    if (next != free_.end() && first + count == next->first) {
      count += next->second;
      next = free_.erase(next);
    }
    if (next != free_.begin()) {
      auto before = std::prev(next);
      if (before->first + before->second == first) {
        before->second += count;
        continue;
      }
    }
    free_.emplace(first, count);
  }
}

} // namespace coppice::storage
