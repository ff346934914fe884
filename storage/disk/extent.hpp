#pragma once

#include <cstdint>
#include <limits>

namespace coppice::storage {

/// The unit in which disks are mapped, copied on write and stored: ext4's block, a page, and the
/// least that a guest's disk takes.
inline constexpr std::uint32_t cluster_bits = 12;
inline constexpr std::uint64_t cluster_bytes = 1ull << cluster_bits;

/// Clusters are counted in 32 bits: 16 TiB of disk, and of each file.
using cluster_number = std::uint32_t;

/// A run of the disk that one file of ours has changed.
struct own_extent {
  cluster_number guest = 0; ///< where on the disk
  cluster_number count = 0;
  cluster_number file = 0; ///< where in the file; `zeros`: reads as zeros and is stored nowhere

  static constexpr cluster_number zeros = std::numeric_limits<cluster_number>::max();

  friend bool operator==(const own_extent&, const own_extent&) = default;
};

} // namespace coppice::storage
