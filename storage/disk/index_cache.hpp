#pragma once

#include "protocol/frame.hpp"
#include "protocol/records.capnp.h"
#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/disk/block_index.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace coppice::storage {

/// The indexes of images that were used of late.
///
/// Guarantee: at most `bytes_max` of memory beside what is in use elsewhere; the least recently
/// used goes first. A checkpoint is in memory once, however many images stand on it. Any thread.
class index_cache {
public:
  /// Reads what the catalog has for an image; any thread.
  using load = std::function<result<frame<proto::ImageIndex>>(const uuid&)>;

  index_cache(load from, std::size_t bytes_max);

  /// not_found, damaged: as the catalog or the index says.
  result<std::shared_ptr<const block_index>> get(const uuid& image);

  /// The same for a look at many images in passing: does not push out what is used, and keeps no
  /// more than checkpoints.
  result<std::shared_ptr<const block_index>> get_in_passing(const uuid& image);

  /// A new image, whose record is about to be committed.
  void put(const uuid& image, std::shared_ptr<const block_index> index);

  void forget(const uuid& image);

  /// For figures: everything is read anew.
  void clear();

private:
  struct entry {
    std::shared_ptr<const block_index> index;
    std::list<uuid>::iterator place;
  };

  std::shared_ptr<const block_index> find(const uuid& image);
  enum class as : std::uint8_t { image, checkpoint, passing };
  result<std::shared_ptr<const block_index>> read(const uuid& image, as wanted);

  load load_;
  std::size_t bytes_max_;
  std::mutex mutex_;
  std::unordered_map<uuid, entry> entries_;
  std::list<uuid> order_; ///< least recently used first
  std::size_t bytes_ = 0;
};

} // namespace coppice::storage
