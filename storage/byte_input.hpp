#pragma once

#include "protocol/result.hpp"

#include <cstddef>
#include <span>

namespace coppice::storage {

/// A stream of bytes that is read once, front to back: a blob on disk, or memory in a test.
class byte_input {
public:
  virtual ~byte_input() = default;

  /// The next bytes, valid until the next call; empty at the end.
  virtual result<std::span<const std::byte>> next() = 0;
};

} // namespace coppice::storage
