#pragma once

#include "protocol/result.hpp"
#include "storage/qcow2/byte_source.hpp"
#include "storage/qcow2/header.hpp"

#include <cstdint>
#include <vector>

/// L1 and L2 tables (docs/interop/qcow2.txt, section "Cluster mapping").
namespace coppice::storage::qcow2 {

/// What an L2 entry says about its guest cluster.
struct cluster {
  enum class state : std::uint8_t {
    unallocated, ///< the parent knows
    zeros,       ///< reads as zeros, whatever the parent has
    data,        ///< at `offset_bytes` in the file
  };
  state what = state::unallocated;
  std::uint64_t offset_bytes = 0; ///< also of a cluster of zeros that keeps its place; else 0
};

/// How many L1 entries are read at a time: 4 KiB, as the pieces in which a sealed file has its L1.
inline constexpr std::size_t l1_piece_entries = 512;

/// Where the L2 tables for a piece of the L1 start, 0 where nothing is allocated: the entries from
/// piece * l1_piece_entries on that the disk needs, each aligned and inside the file. Empty: all
/// are 0. damaged, io.
result<std::vector<std::uint64_t>> read_l1_piece(const byte_source& source, const header& h,
                                                 std::size_t piece);

/// How many pieces the L1 of a disk has.
std::size_t l1_pieces(const header& h);

/// The entries of the L2 table at `offset_bytes` (from read_l1_piece), each checked: nothing
/// compressed, no reserved bits, aligned and inside the file. Memory: one cluster. damaged, io.
result<std::vector<std::uint64_t>> read_l2(const byte_source& source, const header& h,
                                           std::uint64_t offset_bytes);

/// What an entry from read_l2 says.
cluster cluster_of(std::uint64_t l2_entry);

/// Reads every table that maps the disk: each entry valid, no cluster of the file used twice.
/// Costs one read for each L2 table. Memory: a bit for each cluster of the file. damaged; io.
result<void> check_tables(const byte_source& source, const header& h);

} // namespace coppice::storage::qcow2
