#pragma once

#include "tests/storage/nbd_server.hpp"

#include <cstddef>
#include <cstdint>
#include <stdexcept>

/// What the tests of a connection say to it.
namespace coppice::storage::test {

inline constexpr std::uint32_t mib = 1u << 20;

inline bytes pattern(std::size_t count, unsigned seed) {
  bytes out(count);
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = static_cast<std::byte>(i / 511 + i + seed * 37);
  }
  return out;
}

inline void demand(bool holds, const char* what) {
  if (!holds) {
    throw std::runtime_error{what};
  }
}

/// For what runs on a client's thread, where checks of the test framework may not.
#define DEMAND(condition) demand(condition, #condition)

inline bytes disconnect() {
  return request_of(n::command::disc, 0, 0, 0);
}

} // namespace coppice::storage::test
