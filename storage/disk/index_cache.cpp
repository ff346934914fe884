#include "storage/disk/index_cache.hpp"

#include "storage/error.hpp"

#include <utility>

namespace coppice::storage {

index_cache::index_cache(load from, std::size_t bytes_max)
    : load_{std::move(from)}, bytes_max_{bytes_max} {}

std::shared_ptr<const block_index> index_cache::find(const uuid& image) {
  std::lock_guard lock{mutex_};
  auto known = entries_.find(image);
  if (known == entries_.end()) {
    return nullptr;
  }
  order_.splice(order_.end(), order_, known->second.place);
  return known->second.index;
}

result<std::shared_ptr<const block_index>> index_cache::get(const uuid& image) {
  if (auto known = find(image)) {
    return known;
  }
  return read(image, as::image);
}

result<std::shared_ptr<const block_index>> index_cache::get_in_passing(const uuid& image) {
  {
    std::lock_guard lock{mutex_};
    if (auto known = entries_.find(image); known != entries_.end()) {
      return known->second.index;
    }
  }
  return read(image, as::passing);
}

result<std::shared_ptr<const block_index>> index_cache::read(const uuid& image, as wanted) {
  // Without the lock: two threads may read the same, and the second finds it there.
  auto record = load_(image);
  if (record.has_error()) {
    return record.error();
  }
  auto view = record->view();
  auto checkpoint = uuid::from(view->getCheckpoint());
  std::shared_ptr<const block_index> below;
  if (checkpoint) {
    if (wanted == as::checkpoint) {
      return fail(ec::damaged, "the index of image " + image.text() +
                                   " is no checkpoint, though others stand on it");
    }
    below = find(checkpoint);
    if (!below) {
      auto loaded = read(checkpoint, as::checkpoint);
      if (loaded.has_error()) {
        return loaded.error();
      }
      below = std::move(*loaded);
    }
  }
  auto extents = view->getExtents();
  auto decoded = block_index::decode(
      image, {reinterpret_cast<const std::byte*>(extents.begin()), extents.size()},
      std::move(below));
  if (decoded.has_error()) {
    return decoded.error();
  }
  if (wanted != as::passing) {
    put(image, *decoded);
  }
  return *decoded;
}

void index_cache::put(const uuid& image, std::shared_ptr<const block_index> index) {
  std::lock_guard lock{mutex_};
  auto bytes = index->memory_bytes();
  auto [known, is_new] = entries_.try_emplace(image);
  if (!is_new) {
    return;
  }
  known->second = {std::move(index), order_.insert(order_.end(), image)};
  bytes_ += bytes;
  while (bytes_ > bytes_max_ && order_.size() > 1) {
    auto oldest = entries_.find(order_.front());
    bytes_ -= oldest->second.index->memory_bytes();
    entries_.erase(oldest);
    order_.pop_front();
  }
}

void index_cache::forget(const uuid& image) {
  std::lock_guard lock{mutex_};
  auto known = entries_.find(image);
  if (known != entries_.end()) {
    bytes_ -= known->second.index->memory_bytes();
    order_.erase(known->second.place);
    entries_.erase(known);
  }
}

void index_cache::clear() {
  std::lock_guard lock{mutex_};
  entries_.clear();
  order_.clear();
  bytes_ = 0;
}

} // namespace coppice::storage
