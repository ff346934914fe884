#pragma once

#include "protocol/uuid.hpp"
#include "storage/disk/extent.hpp"
#include "storage/qcow2/header.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

/// Where everything lies in a sealed file (sealed_file.hpp), for who writes and who reads one.
///
/// Guarantee: the same extents always give the same layout and the same bytes, so a reader may
/// demand that a file is, byte for byte, what would be written again.
namespace coppice::storage::qcow2 {

/// Clusters of the file.
struct cluster_run {
  std::uint64_t first = 0;
  std::uint64_t count = 0;

  std::uint64_t end() const {
    return first + count;
  }
};

struct sealed_layout {
  std::uint64_t disk_bytes = 0;
  std::uint64_t data_end = 0; ///< the first cluster of the metadata, which begins with L2 tables
  std::uint64_t l2_tables = 0;
  std::uint64_t refcount_blocks_begin = 0;
  std::vector<std::uint64_t> refcount_blocks; ///< which of them have a count: numbers, ascending
  std::uint64_t refcount_table_begin = 0;
  std::uint64_t refcount_table_clusters = 0;
  std::uint64_t counted_end = 0;    ///< behind the last cluster that has a reference count
  std::vector<cluster_run> counted; ///< all that have one, ascending, disjoint

  std::uint64_t checksums_offset() const {
    return counted_end * cluster_bytes_written;
  }
};

/// The part of the disk that one L2 table maps.
constexpr std::uint64_t l2_clusters = cluster_bytes_written / entry_bytes;

/// The data of these extents as runs of the file, ascending by place, adjacent ones merged.
std::vector<cluster_run> data_runs(std::span<const own_extent> own);

/// Preconditions: as build_tables.
sealed_layout place_tables(std::uint64_t disk_bytes, std::span<const own_extent> own,
                           std::uint64_t data_end);

/// The blocks of reference counts of a layout, one after another.
class refcount_writer {
public:
  explicit refcount_writer(const sealed_layout& layout) : layout_{layout} {}

  /// Writes the next one of layout.refcount_blocks to a cluster of zeros.
  void next(std::span<std::byte> block);

private:
  const sealed_layout& layout_;
  std::size_t block_ = 0;
  std::size_t run_ = 0; ///< the first that may reach into the next block
};

/// The refcount table up to its last entry that is not zero.
std::vector<std::byte> encode_refcount_table(const sealed_layout& layout);

header header_of(const sealed_layout& layout, const std::optional<uuid>& parent);

} // namespace coppice::storage::qcow2
