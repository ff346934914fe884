#pragma once

#include "storage/big_endian.hpp"
#include "storage/disk/extent.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

/// qcow2 version 3 as published (docs/interop/qcow2.txt of QEMU; sections are cited by name).
/// The unit of allocation is the cluster; every number is big-endian.
namespace coppice::storage::qcow2 {

// -- section "Header"
// --------------------------------------------------------------------------------

inline constexpr std::uint32_t magic = 0x514649fb; ///< "QFI\xfb"
inline constexpr std::uint32_t version = 3;

/// Where each field starts, in bytes.
namespace field {
inline constexpr std::size_t magic = 0;
inline constexpr std::size_t version = 4;
inline constexpr std::size_t backing_file_offset = 8;
inline constexpr std::size_t backing_file_size = 16;
inline constexpr std::size_t cluster_bits = 20;
inline constexpr std::size_t size = 24;
inline constexpr std::size_t crypt_method = 32;
inline constexpr std::size_t l1_size = 36;
inline constexpr std::size_t l1_table_offset = 40;
inline constexpr std::size_t refcount_table_offset = 48;
inline constexpr std::size_t refcount_table_clusters = 56;
inline constexpr std::size_t nb_snapshots = 60;
inline constexpr std::size_t incompatible_features = 72;
inline constexpr std::size_t compatible_features = 80;
inline constexpr std::size_t autoclear_features = 88;
inline constexpr std::size_t refcount_order = 96;
inline constexpr std::size_t header_length = 100;
inline constexpr std::size_t compression_type = 104;
} // namespace field

inline constexpr std::size_t header_length_min = 104;

/// What we write: with compression_type and its padding, as QEMU does today.
inline constexpr std::size_t header_length_written = 112;

inline constexpr std::uint64_t incompatible_dirty = 1u << 0;
inline constexpr std::uint64_t incompatible_corrupt = 1u << 1;
inline constexpr std::uint64_t incompatible_external_data = 1u << 2;
inline constexpr std::uint64_t incompatible_compression_type = 1u << 3;
inline constexpr std::uint64_t incompatible_extended_l2 = 1u << 4;

// -- section "Header extensions"
// ---------------------------------------------------------------------

namespace extension {
inline constexpr std::uint32_t end = 0x00000000;
inline constexpr std::uint32_t backing_format = 0xe2792aca;
inline constexpr std::uint32_t feature_names = 0x6803f857;
inline constexpr std::uint32_t bitmaps = 0x23852875;
inline constexpr std::uint32_t encryption = 0x0537be77;
inline constexpr std::uint32_t external_data_file = 0x44415441;
/// Ours, "CCRC": where the checksums of a sealed file are (sealed_file.hpp). Others skip it, since
/// "unknown header extensions can be safely ignored".
inline constexpr std::uint32_t checksums = 0x43435243;
} // namespace extension

// -- section "Cluster mapping"
// -----------------------------------------------------------------------

inline constexpr std::uint64_t entry_offset_mask = 0x00ff'ffff'ffff'fe00; ///< bits 9 to 55
inline constexpr std::uint64_t entry_copied = 1ull << 63;                 ///< refcount is one
inline constexpr std::uint64_t l2_compressed = 1ull << 62;
inline constexpr std::uint64_t l2_reads_as_zeros = 1ull << 0;

inline constexpr std::uint64_t l1_reserved = ~(entry_offset_mask | entry_copied);
inline constexpr std::uint64_t l2_reserved =
    ~(entry_offset_mask | entry_copied | l2_compressed | l2_reads_as_zeros);

inline constexpr std::size_t entry_bytes = 8;    ///< of an L1, L2 or refcount table
inline constexpr std::size_t checksum_bytes = 4; ///< of ours

// -- our limits
// --------------------------------------------------------------------------------------

/// "Must not be less than 9"; QEMU refuses more than 2 MiB.
inline constexpr std::uint32_t cluster_bits_min = 9;
inline constexpr std::uint32_t cluster_bits_max = 21;

/// 4 KiB, as disks are mapped (extent.hpp): a small change stays small. The L1 of a 64 GiB disk
/// takes 256 KiB then, nearly all of it holes, and one L2 table covers 2 MiB.
inline constexpr std::uint32_t cluster_bits_written = cluster_bits;
inline constexpr std::uint64_t cluster_bytes_written = 1ull << cluster_bits_written;

/// Reference counts of 16 bits, the format's default.
inline constexpr std::uint32_t refcount_order_written = 4;
inline constexpr std::uint32_t refcount_order_max = 6;
inline constexpr std::uint64_t refcount_bytes = (1u << refcount_order_written) / 8;
inline constexpr std::uint64_t refcounts_in_block = cluster_bytes_written / refcount_bytes;

/// Fixed fields, all extensions that QEMU writes (under 600 bytes) and the longest name fit twice.
inline constexpr std::size_t header_area_bytes = 4096;

/// Far above any disk of ours: what an L1 of QEMU's limit maps with clusters of 4 KiB.
inline constexpr std::uint64_t disk_bytes_max = 8ull << 40;

/// ext4 ends files of 4 KiB blocks here; a longer file is not one of ours.
inline constexpr std::uint64_t file_bytes_max = 16ull << 40;

/// QEMU's own limit.
inline constexpr std::uint64_t l1_bytes_max = 32ull << 20;

/// QEMU's own limit: enough for 8 TiB of file at 4 KiB clusters.
inline constexpr std::uint64_t refcount_table_bytes_max = 8ull << 20;

// -- numbers
// -----------------------------------------------------------------------------------------

constexpr std::uint64_t divide_up(std::uint64_t value, std::uint64_t unit) {
  return value / unit + (value % unit != 0 ? 1 : 0);
}

/// One L1 entry leads to one L2 table of cluster_bytes / 8 entries of one cluster each.
constexpr std::uint64_t l1_entries_for(std::uint64_t disk_bytes, std::uint32_t cluster_bits) {
  return divide_up(disk_bytes, std::uint64_t{1} << (2 * cluster_bits - 3));
}

static_assert(l1_entries_for(disk_bytes_max, cluster_bits_written) * entry_bytes <= l1_bytes_max);
static_assert(file_bytes_max <= (entry_offset_mask | 0x1ff));

} // namespace coppice::storage::qcow2
