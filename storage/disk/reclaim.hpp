#pragma once

#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/disk/block_index.hpp"
#include "storage/disk/extent.hpp"

#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace coppice::storage {

/// How reclaiming asks about images whose files stand on each other's.
struct file_family {
  /// The images whose files stand on that one's, dead and live.
  std::function<result<std::vector<uuid>>(const uuid&)> children_of;
  std::function<bool(const uuid&)> is_live;
  /// Of a live image.
  std::function<result<std::shared_ptr<const block_index>>(const uuid&)> index_of;
};

/// Which clusters of a deleted image's file no live image can see: what may be punched out of it.
///
/// Problem: the file of a deleted image must stay for those that were branched from it, but they
/// may have replaced much of it.
///
/// Guarantee: a cluster is named only if none of the live images below has it. Below a live image
/// nothing is looked at: whoever was branched from it sees no more of the file than it does. The
/// work is bounded by the file's own runs for each live image looked at, and ends when all of the
/// file is seen.
///
/// `own`: what the file says of itself. The answer is in the order of places in the file; no zeros.
/// conflict: the image is live. damaged: an index has other clusters of the file where `own` has
/// these, or files stand on themselves. A failure to ask is passed on; then nothing may be punched.
result<std::vector<own_extent>> unseen_clusters(const uuid& file, std::span<const own_extent> own,
                                                const file_family& family);

} // namespace coppice::storage
