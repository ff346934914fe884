#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

/// Numbers as qcow2 and NBD have them. The bytes need not be aligned.
namespace coppice::storage {

/// Precondition: the number lies inside `bytes`.
template <class T>
T load_be(std::span<const std::byte> bytes, std::size_t at) {
  T value = 0;
  for (auto b : bytes.subspan(at, sizeof(T))) {
    value = static_cast<T>(static_cast<T>(value << 8) | static_cast<T>(b));
  }
  return value;
}

/// Precondition: the number fits inside `bytes`.
template <class T>
void store_be(std::span<std::byte> bytes, std::size_t at, T value) {
  auto target = bytes.subspan(at, sizeof(T));
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    target[i] = static_cast<std::byte>(value >> (8 * (sizeof(T) - 1 - i)));
  }
}

} // namespace coppice::storage
