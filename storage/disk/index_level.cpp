#include "storage/disk/index_level.hpp"

#include <algorithm>
#include <utility>

namespace coppice::storage {

std::size_t index_level::first_behind(cluster_number guest) const {
  auto found =
      std::upper_bound(entries.begin(), entries.end(), guest,
                       [](cluster_number at, const index_entry& e) { return at < e.end(); });
  return static_cast<std::size_t>(found - entries.begin());
}

void level_builder::add(const index_entry& run, const std::vector<uuid>& files) {
  if (run.is_zeros()) {
    add_zeros(run.guest, run.end());
  } else {
    add_data(run, files[run.slot]);
  }
}

index_level level_builder::take() {
  made_.entries.shrink_to_fit();
  made_.files.shrink_to_fit();
  return std::move(made_);
}

std::uint32_t level_builder::slot_of(const uuid& file) {
  if (!made_.entries.empty() && !made_.entries.back().is_zeros()) {
    if (auto slot = made_.entries.back().slot; made_.files[slot] == file) {
      return slot; // by far the most frequent, without a hash
    }
  }
  auto [at, is_new] = slots_.try_emplace(file, static_cast<std::uint32_t>(made_.files.size()));
  if (is_new) {
    made_.files.push_back(file);
  }
  return at->second;
}

void level_builder::add_data(const index_entry& run, const uuid& file) {
  const auto slot = slot_of(file);
  if (!made_.entries.empty()) {
    auto& last = made_.entries.back();
    if (last.slot == slot && last.end() == run.guest && last.file + last.count == run.file) {
      last.count += run.count;
      return;
    }
  }
  made_.entries.push_back({run.guest, run.count, slot, run.file});
}

void level_builder::add_zeros(cluster_number guest, cluster_number end) {
  if (!below_) {
    return;
  }
  const auto& below = below_->entries;
  const auto first = below_->first_behind(guest);
  if (first == below.size() || below[first].guest >= end) {
    return;
  }
  guest = std::max(guest, below[first].guest);
  auto last = below_->first_behind(end - 1);
  if (last == below.size() || below[last].guest >= end) {
    --last; // at least `first` is before it
  }
  end = std::min(end, below[last].end());
  if (!made_.entries.empty() && made_.entries.back().is_zeros()) {
    auto& before = made_.entries.back();
    if (before.end() == guest || below[below_->first_behind(before.end())].guest >= guest) {
      before.count = end - before.guest;
      return;
    }
  }
  made_.entries.push_back({guest, end - guest, index_entry::zeros_slot, 0});
}

index_level level_of(const uuid& image, std::span<const own_extent> own) {
  index_level level;
  level.files.push_back(image);
  level.entries.reserve(own.size());
  for (const auto& e : own) {
    const bool is_zeros = e.file == own_extent::zeros;
    level.entries.push_back(
        {e.guest, e.count, is_zeros ? index_entry::zeros_slot : 0, is_zeros ? 0 : e.file});
  }
  return level;
}

void overlay(const index_level& lower, const index_level& upper, level_builder& into) {
  auto over = upper.entries.begin();
  cluster_number hidden_end = 0;
  for (const auto& e : lower.entries) {
    auto at = std::max(e.guest, hidden_end);
    for (;;) {
      for (; over != upper.entries.end() && over->guest <= at; ++over) {
        into.add(*over, upper.files);
        hidden_end = over->end();
        at = std::max(at, hidden_end);
      }
      if (at >= e.end()) {
        break;
      }
      const auto stop = over == upper.entries.end() ? e.end() : std::min(e.end(), over->guest);
      const auto skipped = at - e.guest;
      into.add({at, stop - at, e.slot, e.is_zeros() ? 0 : e.file + skipped}, lower.files);
      at = stop;
    }
  }
  for (; over != upper.entries.end(); ++over) {
    into.add(*over, upper.files);
  }
}

} // namespace coppice::storage
