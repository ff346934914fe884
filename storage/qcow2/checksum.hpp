#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

/// CRC-32C (Castagnoli), the checksum of a data cluster.
///
/// Problem: a disk that gives back other bytes than it was given must be found out, at the speed at
/// which images are sealed. Of the libraries linked here only libext2fs has CRC-32C, in software;
/// the processor's own instruction is more than three times as fast as tables, and little code.
namespace coppice::storage::qcow2 {

/// By the processor's instruction where it has one (SSE 4.2, looked for at the first call), else by
/// tables. Any thread.
std::uint32_t checksum(std::span<const std::byte> bytes);

/// The same number by tables, on every processor.
std::uint32_t checksum_by_tables(std::span<const std::byte> bytes);

} // namespace coppice::storage::qcow2
