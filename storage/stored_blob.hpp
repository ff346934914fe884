#pragma once

#include <array>
#include <cstdint>

namespace coppice::storage {

/// What an upload has become.
struct stored_blob {
  using sha256 = std::array<unsigned char, 32>;

  sha256 digest{};
  std::uint64_t size_bytes = 0;
};

} // namespace coppice::storage
