#pragma once

#include "protocol/messages.capnp.h"
#include "protocol/uuid.hpp"
#include "storage/catalog_tables.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

/// The tree of images around one of them.
///
/// Problem: a search over a tree of images asks what an image came from and what came of it, while
/// images in the middle of the tree may have been deleted, and a node may have a million children.
///
/// Guarantee: deleted images are looked through: the living ones on their two sides are each
/// other's nearest. A walk looks at `tree_visits_max` images at most, living and dead, and says
/// when that, or the number asked for, was not all.
/// Failures are the transaction's.
namespace coppice::storage {

inline constexpr std::size_t tree_visits_max = 200'000;

struct tree_node {
  uuid image;
  uuid parent;                ///< the nearest that lives; nil: none
  std::uint32_t distance = 0; ///< in living images from where the walk began
};

struct tree_walk {
  std::vector<tree_node> nodes;
  bool is_truncated = false; ///< there is more within the distance
  bool is_too_large = false; ///< and a larger offset will not find it
};

/// Which part of a walk is wanted.
struct tree_bounds {
  std::uint32_t distance_max = 1;
  std::size_t offset = 0; ///< nodes that are left out before the first
  std::size_t limit = 0;
  std::size_t visits_max = tree_visits_max;
};

/// The nearest first.
tree_walk walk_ancestors(lmdb::transaction& in, const tables& t, const uuid& from,
                         const tree_bounds& bounds);

/// By distance; those of one parent together, in the order of their ids, which is that of time,
/// those below a deleted one last.
tree_walk walk_descendants(lmdb::transaction& in, const tables& t, const uuid& from,
                           const tree_bounds& bounds);

} // namespace coppice::storage
