#include "storage/disk/block_index.hpp"

#include "storage/disk/index_codec.hpp"
#include "storage/disk/index_level.hpp"
#include "storage/error.hpp"

#include <algorithm>
#include <utility>

namespace coppice::storage {

namespace {

const uuid no_checkpoint;

/// The end of the level's last run in [begin, end), clipped; 0: there is none.
cluster_number last_end_in(const index_level& level, cluster_number begin, cluster_number end) {
  if (begin >= end) {
    return 0;
  }
  auto at = level.first_behind(end - 1);
  if (at < level.entries.size() && level.entries[at].guest < end) {
    return end;
  }
  if (at == 0 || level.entries[at - 1].end() <= begin) {
    return 0;
  }
  return level.entries[at - 1].end();
}

/// How many clusters of [begin, end) a level without zeros has.
std::uint64_t data_in(const index_level& level, cluster_number begin, cluster_number end) {
  std::uint64_t found = 0;
  for (auto at = level.first_behind(begin);
       at < level.entries.size() && level.entries[at].guest < end; ++at) {
    const auto& e = level.entries[at];
    found += std::min(e.end(), end) - std::max(e.guest, begin);
  }
  return found;
}

/// The end of the last data of `changes` on top of `below`; zeros may hide the end of `below`.
cluster_number data_end(const index_level& changes, const index_level* below) {
  auto limit = clusters_end;
  for (auto e = changes.entries.rbegin(); e != changes.entries.rend(); ++e) {
    if (auto found = below ? last_end_in(*below, e->end(), limit) : 0; found != 0) {
      return found;
    }
    if (!e->is_zeros()) {
      return e->end();
    }
    limit = e->guest;
  }
  return below ? last_end_in(*below, 0, limit) : 0;
}

} // namespace

struct block_index::impl {
  impl(const uuid& of, std::shared_ptr<const block_index> on, index_level made)
      : image{of}, below{std::move(on)}, level{std::move(made)},
        end{data_end(level, level_below())}, encoded_bytes{encode().size()} {}

  const index_level* level_below() const {
    return below ? &below->impl_->level : nullptr;
  }

  std::vector<std::byte> encode() const {
    return encode_level(level, image, below ? below->impl_->image : no_checkpoint);
  }

  uuid image;
  std::shared_ptr<const block_index> below; ///< the checkpoint; null: this is one
  index_level level;
  cluster_number end;
  std::size_t encoded_bytes;
};

block_index::block_index(std::unique_ptr<const impl> state) : impl_{std::move(state)} {}

block_index::~block_index() = default;

std::shared_ptr<const block_index> block_index::of_import(const uuid& image,
                                                          std::span<const own_extent> own) {
  level_builder whole{nullptr};
  overlay({}, level_of(image, own), whole);
  return std::shared_ptr<const block_index>{
      new block_index{std::make_unique<const impl>(image, nullptr, whole.take())}};
}

std::shared_ptr<const block_index> block_index::of_child(std::shared_ptr<const block_index> parent,
                                                         const uuid& image,
                                                         std::span<const own_extent> own) {
  auto below = parent->impl_->below ? parent->impl_->below : parent;
  const auto& checkpoint = *below->impl_;
  level_builder changes{&checkpoint.level};
  overlay(parent->impl_->below ? parent->impl_->level : index_level{}, level_of(image, own),
          changes);
  auto made = std::make_unique<const impl>(image, below, changes.take());
  const auto share =
      static_cast<std::size_t>(changes_share_max * static_cast<double>(checkpoint.encoded_bytes));
  if (made->encoded_bytes > std::max(share, changes_bytes_min)) {
    level_builder whole{nullptr};
    overlay(checkpoint.level, made->level, whole);
    made = std::make_unique<const impl>(image, nullptr, whole.take());
  }
  return std::shared_ptr<const block_index>{new block_index{std::move(made)}};
}

block_index::run block_index::find(cluster_number guest, cluster_number count_max) const {
  const auto& level = impl_->level;
  const auto at = level.first_behind(guest);
  if (at == level.entries.size() || level.entries[at].guest > guest) {
    if (at < level.entries.size()) {
      count_max = std::min(count_max, level.entries[at].guest - guest);
    }
    return impl_->below ? impl_->below->find(guest, count_max) : run{count_max, nullptr, 0};
  }
  const auto& e = level.entries[at];
  count_max = std::min(count_max, e.end() - guest);
  if (e.is_zeros()) {
    return {count_max, nullptr, 0};
  }
  return {count_max, &level.files[e.slot], e.file + (guest - e.guest)};
}

const uuid& block_index::checkpoint() const {
  return impl_->below ? impl_->below->impl_->image : no_checkpoint;
}

std::vector<std::byte> block_index::encode() const {
  return impl_->encode();
}

result<std::shared_ptr<const block_index>>
block_index::decode(const uuid& image, std::span<const std::byte> bytes,
                    std::shared_ptr<const block_index> checkpoint) {
  if (checkpoint && checkpoint->impl_->below) {
    return fail(ec::damaged,
                "block index: image " + checkpoint->impl_->image.text() + " is not a checkpoint");
  }
  auto level = decode_level(bytes, image, checkpoint ? checkpoint->impl_->image : no_checkpoint);
  if (!level) {
    return level.error();
  }
  level_builder same{checkpoint ? &checkpoint->impl_->level : nullptr};
  overlay({}, *level, same);
  if (same.take() != *level) {
    return fail(ec::damaged,
                "block index: runs that should be one, a file twice, or zeros over nothing");
  }
  return std::shared_ptr<const block_index>{new block_index{
      std::make_unique<const impl>(image, std::move(checkpoint), std::move(*level))}};
}

std::size_t block_index::memory_bytes() const {
  return sizeof(block_index) + sizeof(impl) +
         impl_->level.entries.capacity() * sizeof(index_entry) +
         impl_->level.files.capacity() * sizeof(uuid);
}

cluster_number block_index::end() const {
  return impl_->end;
}

block_index::counts block_index::count() const {
  const auto* below = impl_->level_below();
  counts out;
  out.data = below ? data_in(*below, 0, clusters_end) : 0;
  for (const auto& e : impl_->level.entries) {
    out.data -= below ? data_in(*below, e.guest, e.end()) : 0;
    out.data += e.is_zeros() ? 0 : e.count;
    out.own += !e.is_zeros() && impl_->level.files[e.slot] == impl_->image ? e.count : 0;
  }
  return out;
}

} // namespace coppice::storage
