#pragma once

#include "protocol/uuid.hpp"
#include "storage/disk/extent.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <unordered_map>
#include <vector>

namespace coppice::storage {

/// A run of one level of a block index.
struct index_entry {
  cluster_number guest = 0;
  cluster_number count = 0;
  std::uint32_t slot = 0;  ///< in the level's file table; `zeros_slot`: reads as zeros
  cluster_number file = 0; ///< 0 for zeros

  static constexpr std::uint32_t zeros_slot = std::numeric_limits<std::uint32_t>::max();

  bool is_zeros() const {
    return slot == zeros_slot;
  }
  cluster_number end() const {
    return guest + count;
  }

  friend bool operator==(const index_entry&, const index_entry&) = default;
};

/// Where the clusters of a disk end at the latest, and those of a file: so that the cluster behind
/// the last one has a number too.
inline constexpr cluster_number clusters_end = std::numeric_limits<cluster_number>::max();

/// One level of a block index: the whole disk, or what has changed since a checkpoint.
///
/// Problem: two levels that say the same must be the same bytes, or a stored index could not be
/// told from a forged one, and runs would split further with every generation.
///
/// Guarantee: what level_builder makes has one form only. Entries are sorted and disjoint, merged
/// where they go on in both disk and file; the file table has exactly the files in use, in the
/// order in which entries first name them. Zeros begin and end at clusters that have data below,
/// and there are no two of them without such a cluster between.
struct index_level {
  std::vector<index_entry> entries;
  std::vector<uuid> files;

  /// The first entry that ends behind `guest`.
  std::size_t first_behind(cluster_number guest) const;

  friend bool operator==(const index_level&, const index_level&) = default;
};

/// Makes a level of runs that come in the order of their guest clusters and are disjoint.
class level_builder {
public:
  /// `below`: the checkpoint on which the level stands, it outlives this; null: there is none, and
  /// zeros vanish.
  explicit level_builder(const index_level* below) : below_{below} {}

  void add(const index_entry& run, const std::vector<uuid>& files);
  index_level take();

private:
  void add_data(const index_entry& run, const uuid& file);
  void add_zeros(cluster_number guest, cluster_number end);
  std::uint32_t slot_of(const uuid& file);

  const index_level* below_;
  index_level made_;
  std::unordered_map<uuid, std::uint32_t> slots_;
};

/// What a disk has changed, as a level.
index_level level_of(const uuid& image, std::span<const own_extent> own);

/// Gives `into` the runs of `lower`, hidden where `upper` has any.
void overlay(const index_level& lower, const index_level& upper, level_builder& into);

} // namespace coppice::storage
