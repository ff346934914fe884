#pragma once

#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/disk/index_level.hpp"

#include <cstddef>
#include <span>
#include <vector>

/// One level of a block index as bytes.
///
/// Problem: every image stores a level, so each run must take few bytes; and a level whose bytes
/// were altered would hand one image's blocks to another.
///
/// Guarantee: a level has one encoding only. Reading believes nothing and makes nothing larger than
/// a small multiple of the input; bytes that were altered, or that belong to another image or
/// checkpoint, are `damaged`.
///
///   version (1), 0 for a checkpoint or 1 for changes
///   number of files, their ids of 16 bytes; number of runs
///   each run: clusters between the end of the last one and this
///             (count - 1) * 4 + kind
///             another_file: its slot
///             unless zeros: distance from where the last run in the same file ended, zigzag
///   CRC-32C of the image's id, the checkpoint's id (nil: none) and all before it, little-endian
///
/// Numbers are LEB128 without superfluous bytes.
namespace coppice::storage {

inline constexpr std::byte index_format_version{1};

enum class run_kind : unsigned {
  zeros = 0,
  same_file = 1,    ///< of the last run that had one
  another_file = 2, ///< any that was named before
  next_file = 3,    ///< the first one of the table that was not named yet
};

/// `level` is what level_builder makes. `checkpoint`: nil if the level is one itself.
std::vector<std::byte> encode_level(const index_level& level, const uuid& image,
                                    const uuid& checkpoint);

/// damaged. Whether runs are merged and zeros are over data is not looked at here.
result<index_level> decode_level(std::span<const std::byte> bytes, const uuid& image,
                                 const uuid& checkpoint);

/// Appends the checksum; for tests that make bytes of their own.
void append_checksum(std::vector<std::byte>& bytes, const uuid& image, const uuid& checkpoint);

} // namespace coppice::storage
