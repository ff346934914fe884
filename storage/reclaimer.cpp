#include "storage/reclaimer.hpp"

#include "storage/disk/engine_bytes.hpp"
#include "storage/error.hpp"
#include "storage/qcow2/sealed_file.hpp"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace coppice::storage {

namespace {

/// One call to the engine: a moment of work, so that a stop is not kept waiting.
constexpr std::size_t runs_at_once = 256;
constexpr std::uint64_t clusters_at_once = (64u << 20) / cluster_bytes;

const char* const stopped_text = "reclaiming was stopped; it goes on at the next start";

failure stopped() {
  return fail(ec::conflict, stopped_text);
}

} // namespace

file_family family_in(const catalog& records, index_cache& indexes) {
  return {[&records](const uuid& image) -> result<std::vector<uuid>> {
            std::vector<uuid> all;
            for (;;) {
              auto page = records.list_child_files(image, all.empty() ? uuid{} : all.back());
              if (!page || page->empty()) {
                return page ? result<std::vector<uuid>>{std::move(all)} : page;
              }
              all.insert(all.end(), page->begin(), page->end());
            }
          },
          [&records](const uuid& image) { return records.has_image(image); },
          [&indexes](const uuid& image) {
            return indexes.get_in_passing(image);
          }};
}

reclaimer::reclaimer(std::shared_ptr<const catalog> records, std::shared_ptr<engine> disks)
    : records_{std::move(records)}, disks_{std::move(disks)} {}

void reclaimer::stop() {
  is_stopped_ = true;
}

result<std::uint64_t> reclaimer::remove(const uuid& image) {
  if (is_stopped_) {
    return stopped();
  }
  if (records_->has_image_file(image)) {
    return fail(ec::conflict, "the file of image " + image.text() + " is needed");
  }
  return wait_for<std::uint64_t>(
      [&](engine::answer<std::uint64_t> then) { disks_->remove_file(image, std::move(then)); });
}

result<std::uint64_t> reclaimer::punch(const uuid& image) {
  if (records_->has_image(image) || !records_->has_image_file(image)) {
    return std::uint64_t{0};
  }
  auto bytes = engine_bytes::open(
      image.text() + ".qcow2",
      [this, image](std::uint64_t offset_bytes, std::size_t bytes_max,
                    engine::answer<engine::file_piece> then) {
        disks_->read_file(image, offset_bytes, bytes_max, std::move(then));
      },
      is_stopped_, stopped_text);
  if (!bytes) {
    return bytes.error();
  }
  auto content = qcow2::read_sealed(**bytes);
  if (!content) {
    return content.error();
  }
  auto family = family_in(*records_, disks_->indexes());
  family.index_of = [this, of = std::move(family.index_of)](
                        const uuid& live) -> result<std::shared_ptr<const block_index>> {
    if (is_stopped_) {
      return stopped();
    }
    return of(live);
  };
  auto unseen = unseen_clusters(image, content->own, family);
  if (!unseen) {
    return unseen.error();
  }
  return punch_all(image, *unseen);
}

result<std::uint64_t> reclaimer::punch_all(const uuid& image,
                                           const std::vector<own_extent>& clusters) {
  std::uint64_t freed = 0;
  for (auto at = clusters.begin(); at != clusters.end();) {
    if (is_stopped_) {
      return stopped();
    }
    std::vector<own_extent> some;
    for (std::uint64_t sum = 0;
         at != clusters.end() && some.size() < runs_at_once && sum < clusters_at_once; ++at) {
      some.push_back(*at);
      sum += at->count;
    }
    auto done = wait_for<std::uint64_t>([&](engine::answer<std::uint64_t> then) {
      disks_->punch(image, std::move(some), std::move(then));
    });
    if (!done) {
      return done.error();
    }
    freed += *done;
  }
  return freed;
}

} // namespace coppice::storage
