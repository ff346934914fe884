#include "storage/disk/reclaim.hpp"

#include "storage/error.hpp"

#include <algorithm>
#include <iterator>
#include <string>
#include <unordered_set>
#include <utility>

namespace coppice::storage {

namespace {

using extents = std::vector<own_extent>;

void append(extents& to, const own_extent& e) {
  if (!to.empty()) {
    auto& last = to.back();
    if (last.guest + last.count == e.guest && last.file + last.count == e.file) {
      last.count += e.count;
      return;
    }
  }
  to.push_back(e);
}

/// What of `runs` the disk does not have. A cluster never changes its place on the disk, so it is
/// enough to look where the file had it.
result<extents> hidden_from(const block_index& disk, const uuid& file, const extents& runs) {
  extents hidden;
  for (const auto& e : runs) {
    for (cluster_number at = 0; at < e.count;) {
      const auto run = disk.find(e.guest + at, e.count - at);
      if (!run.file || *run.file != file) {
        append(hidden, {e.guest + at, run.count, e.file + at});
      } else if (run.file_cluster != e.file + at) {
        return fail(ec::damaged, "an index has cluster " + std::to_string(run.file_cluster) +
                                     " of the file of image " + file.text() + " at " +
                                     std::to_string(e.guest + at) + " of the disk; the file has " +
                                     std::to_string(e.file + at) + " there");
      }
      at += run.count;
    }
  }
  return hidden;
}

} // namespace

result<std::vector<own_extent>> unseen_clusters(const uuid& file, std::span<const own_extent> own,
                                                const file_family& family) {
  if (family.is_live(file)) {
    return fail(ec::conflict, "image " + file.text() + " is live: all of its file is seen");
  }
  extents rest;
  std::copy_if(own.begin(), own.end(), std::back_inserter(rest),
               [](const own_extent& e) { return e.file != own_extent::zeros; });
  std::unordered_set<uuid> dead;
  std::vector<uuid> ahead{file};
  while (!ahead.empty() && !rest.empty()) {
    const auto image = ahead.back();
    ahead.pop_back();
    if (family.is_live(image)) {
      auto index = family.index_of(image);
      if (!index) {
        return index.error();
      }
      auto hidden = hidden_from(**index, file, rest);
      if (!hidden) {
        return hidden.error();
      }
      rest = std::move(*hidden);
      continue;
    }
    if (!dead.insert(image).second) {
      return fail(ec::damaged, "the file of image " + image.text() + " stands on itself");
    }
    auto children = family.children_of(image);
    if (!children) {
      return children.error();
    }
    ahead.insert(ahead.end(), children->begin(), children->end());
  }
  std::sort(rest.begin(), rest.end(),
            [](const own_extent& a, const own_extent& b) { return a.file < b.file; });
  return rest;
}

} // namespace coppice::storage
