#pragma once

#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/disk/extent.hpp"
#include "storage/qcow2/byte_source.hpp"
#include "storage/qcow2/checksum.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

/// The layout of every file that the store seals (docs/interop/qcow2.txt, version 3), in clusters
/// of 4 KiB:
///
///   0              header; written last, so an unfinished file is no qcow2 file at all
///   1 … 64         L1 table of a 64 GiB disk; only its touched pieces are written, the rest is a
///                  hole
///   data_begin …   data clusters, in the order in which they were first written; those that were
///                  trimmed or turned out equal to the parent's are holes with reference count 0
///   then           L2 tables, refcount blocks, refcount table
///   then           checksums: CRC-32C of each data cluster in guest order, behind the last counted
///                  cluster, where qcow2 sees free space; a header extension says where
///
/// Guarantee: `qemu-img check` finds neither errors nor leaks, and any qcow2 tool reads the image
/// through the chain: a parent is named by its sibling's name, `<parent>.qcow2`, with its format.
namespace coppice::storage::qcow2 {

/// The first data cluster of a file of a disk of that size.
cluster_number data_begin(std::uint64_t disk_bytes);

struct table_write {
  std::uint64_t offset_bytes = 0;
  std::vector<std::byte> bytes;
};

/// What turns a file with data clusters into an image. The order of `writes` does not matter but
/// for the last, which is the header's. All are whole clusters, for who writes past the page cache.
struct sealed_tables {
  std::vector<table_write> writes;
  std::uint64_t file_bytes = 0; ///< the file ends here
};

/// The extents of a 64 GiB disk at worst, each cluster one of its own.
inline constexpr std::size_t own_extents_max = (64ull << 30) / cluster_bytes;

/// Adds the next extent, in guest order, to a list; one that goes on where the last ends is merged.
void append_extent(std::vector<own_extent>& own, const own_extent& next);

/// `own`: sorted by guest cluster, disjoint, inside the disk, data inside [data_begin, data_end).
/// `checksums`: one for each data cluster of `own`, in guest order.
/// Memory: the tables, about a five-hundredth of the data, more for scattered changes.
sealed_tables build_tables(std::uint64_t disk_bytes, const std::optional<uuid>& parent,
                           std::span<const own_extent> own, cluster_number data_end,
                           std::span<const std::uint32_t> checksums);

/// What a sealed file says of itself, strictly parsed: anything that build_tables cannot have
/// written is `damaged` or `unsupported`, with what and where.
struct sealed_content {
  std::uint64_t disk_bytes = 0;
  std::optional<uuid> parent;
  std::vector<own_extent> own; ///< sorted by guest cluster, adjacent runs merged
  cluster_number data_end = 0;
  std::vector<std::uint32_t> checksums; ///< as in build_tables
};

/// Memory: the tables of the file, `own_extents_max` extents at most. too_large beyond.
result<sealed_content> read_sealed(const byte_source& source);

/// Compares data clusters with their checksums; those of `punched` (its `file` and `count` say
/// which clusters of the file) were given back since and are not looked at. damaged: the first that
/// differs.
result<void> verify_content(const byte_source& source, const sealed_content& content,
                            const std::vector<own_extent>& punched = {});

} // namespace coppice::storage::qcow2
