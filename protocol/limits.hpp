#pragma once

#include <cstddef>
#include <cstdint>

/// Limits that both ends of a wire must agree on, each with its reason.
namespace coppice::limits {

/// One frame on the guest channel or from a worker. Large enough for a start order with every
/// field at its own limit; small enough that a hostile peer costs a megabyte or two.
inline constexpr std::size_t channel_frame_bytes_max = 2u << 20;

/// What the agent puts into one output message: one read of a pipe.
inline constexpr std::size_t output_chunk_bytes = 32u << 10;

/// Pieces in which files, stdin and downloads travel.
inline constexpr std::size_t transfer_chunk_bytes = 256u << 10;

/// Standard input given with a request; the agent holds it in guest memory until it is read.
inline constexpr std::size_t stdin_bytes_max = 12u << 20;

/// Kept of one output stream of one process, at most (api contract, truncate_output_at).
inline constexpr std::uint64_t output_kept_bytes_max = 10u << 20;
inline constexpr std::uint64_t output_kept_bytes_default = 1u << 20;

/// One actor message across nodes, or one record read from the catalog.
inline constexpr std::size_t frame_words_max = (64u << 20) / 8;

/// Nesting in any of our schemas stays below this.
inline constexpr int nesting_limit = 32;

/// The one virtual size of every image's disk: one VM template then fits all (docs/decisions.md).
inline constexpr std::uint64_t disk_bytes = 64ull << 30;

static_assert(output_chunk_bytes < transfer_chunk_bytes);
static_assert(transfer_chunk_bytes < channel_frame_bytes_max);

} // namespace coppice::limits
