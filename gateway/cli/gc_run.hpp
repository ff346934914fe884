#pragma once

#include "actors/settings.hpp"
#include "protocol/result.hpp"
#include "storage/retention.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

/// Deleting what a garbage collection has chosen.
///
/// Problem: it must work while the daemon runs, which may at the same moment start something on an
/// image that was chosen, and while it does not run.
///
/// Guarantee: where a daemon has the state folder each image is deleted by it, through the same
/// request that clients make: what has come into use meanwhile is refused and kept. Otherwise the
/// folder's lock is taken for the time of the collection (a daemon that is started meanwhile is
/// told so), and the space has been given back when it returns. Stopped at any point, nothing is
/// half deleted.
namespace coppice::cli {

struct gc_outcome {
  std::uint64_t deleted = 0;
  std::uint64_t kept = 0;            ///< refused, or gone already
  bool was_daemon = false;           ///< it deleted them and is giving the space back
  std::uint64_t freed_bytes = 0;     ///< given back by us
  std::vector<std::string> refusals; ///< the first few, each with its image
};

/// `images`: children before their parents, so that least is punched before it is removed.
result<gc_outcome> delete_images(const settings& values,
                                 const std::vector<storage::image_fate>& images);

} // namespace coppice::cli
