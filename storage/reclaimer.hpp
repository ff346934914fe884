#pragma once

#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/catalog.hpp"
#include "storage/disk/engine.hpp"
#include "storage/disk/index_cache.hpp"
#include "storage/disk/reclaim.hpp"

#include <atomic>
#include <cstdint>
#include <memory>

namespace coppice::storage {

/// Gives back the space of deleted images.
///
/// Problem: the file of a deleted image must stay as long as a live one has it in its chain, but
/// not all of it. Which parts go must be decided from a catalog that changes meanwhile, and a crash
/// may come between any two steps.
///
/// Guarantee: the catalog's record is gone, durably, before anything is done to a file. A file is
/// removed when the catalog knows no reason for it; a cluster is punched out of the file of a
/// deleted image when no live image sees it. Both stay true whatever happens next: a deleted image
/// never gets a child, and what is branched from a live image sees no more of a file than that
/// does. So every step may be repeated and none needs to be remembered: list_dead_files says at
/// start where to look again. Waits for the engine: one thread at a time, not one of the engine's.
class reclaimer {
public:
  reclaimer(std::shared_ptr<const catalog> records, std::shared_ptr<engine> disks);

  /// Removes the file of an image that nothing needs any more; gives the bytes that it took on
  /// disk. conflict: the catalog knows a reason for it.
  result<std::uint64_t> remove(const uuid& image);

  /// Punches out of the file of a deleted image what no live image sees; gives by how many bytes it
  /// became smaller. 0 for an image that is live, or has no file any more.
  result<std::uint64_t> punch(const uuid& image);

  /// Any thread: what is under way ends soon, as conflict, and so does all that comes later.
  void stop();

private:
  result<std::uint64_t> punch_all(const uuid& image, const std::vector<own_extent>& clusters);

  std::shared_ptr<const catalog> records_;
  std::shared_ptr<engine> disks_;
  std::atomic<bool> is_stopped_{false};
};

/// What `unseen_clusters` asks, answered from a catalog. Both outlive it.
file_family family_in(const catalog& records, index_cache& indexes);

} // namespace coppice::storage
