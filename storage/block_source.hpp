#pragma once

#include "protocol/result.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace coppice::storage {

/// The blocks of one image's disk, read-only: what inspect and seal look at. Today the qcow2 chain
/// on disk stands behind it; the disk server's index takes that place without its users knowing.
class block_source {
public:
  virtual ~block_source() = default;

  /// Bytes of the virtual disk.
  virtual std::uint64_t size_bytes() const = 0;

  /// Fills `out` from `offset_bytes`; unallocated ranges read as zeros. Reading past the end is an
  /// error. Called from one thread at a time.
  virtual result<void> read(std::uint64_t offset_bytes, std::span<std::byte> out) = 0;
};

} // namespace coppice::storage
