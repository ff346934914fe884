#pragma once

#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/qcow2/byte_source.hpp"
#include "storage/qcow2/format.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace coppice::storage::qcow2 {

/// Where the checksums of a sealed file lie: 4 bytes each, behind the last counted cluster.
struct checksum_place {
  std::uint64_t offset_bytes = 0;
  std::uint64_t count = 0;

  friend bool operator==(const checksum_place&, const checksum_place&) = default;
};

/// The header of a qcow2 file of ours.
///
/// Problem: a hostile QEMU can rewrite the header of its overlay: a backing file or a data file
/// that names a file of the host would leak it at the next open. So only what we write ourselves is
/// accepted: the one possible backing file is another image of the store, by its id.
///
/// Guarantee: in a parsed header every table lies inside the file, aligned, and is of the size that
/// the disk needs, within the limits of format.hpp.
struct header {
  std::uint32_t cluster_bits = cluster_bits_written;
  std::uint64_t disk_bytes = 0;
  std::uint32_t l1_entries = 0;
  std::uint64_t l1_offset = 0;
  std::uint64_t refcount_table_offset = 0;
  std::uint32_t refcount_table_clusters = 0;
  std::uint32_t refcount_order = refcount_order_written;
  std::uint64_t compatible_features = 0;
  std::optional<uuid> parent;              ///< the image that the backing file name stands for
  std::optional<checksum_place> checksums; ///< only sealed files have them

  std::uint64_t cluster_bytes() const {
    return std::uint64_t{1} << cluster_bits;
  }
  std::uint64_t l2_entries() const {
    return cluster_bytes() / entry_bytes;
  }

  friend bool operator==(const header&, const header&) = default;
};

/// `<image>.qcow2`: a file in the same folder. So the store can be moved, and no tool ever builds a
/// path that grows with the depth of the chain.
std::string backing_name(const uuid& image);

/// The image that a backing file name stands for; nothing for any other name.
std::optional<uuid> image_of_backing_name(std::string_view name);

/// `start`: the file's first bytes, header_area_bytes of them or the whole file if that is shorter.
/// `name` is for the text of failures only. damaged: it contradicts the format or itself;
/// unsupported: valid, but nothing that we write; too_large: beyond our limits.
result<header> parse_header(std::span<const std::byte> start, std::uint64_t file_bytes,
                            const std::string& name);

/// The header of a whole file; the same failures, and io.
result<header> read_header(const byte_source& source);

/// Header, extensions and backing file name, to stand at the start of the file.
std::vector<std::byte> encode_header(const header& value);

} // namespace coppice::storage::qcow2
