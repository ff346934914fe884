#pragma once

#include "protocol/types.capnp.h"

#include <boost/functional/hash.hpp>

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace coppice {

/// An identifier of an operation, image, file or token (RFC 4122). The nil value means "absent".
struct uuid {
  std::uint64_t hi = 0;
  std::uint64_t lo = 0;

  /// A new version-4 identifier from the kernel's random pool.
  static uuid random();

  /// Canonical text, any letter case; nothing else is accepted.
  static std::optional<uuid> parse(std::string_view text);

  static uuid from(proto::Uuid::Reader reader) {
    return {reader.getHi(), reader.getLo()};
  }

  void to(proto::Uuid::Builder builder) const {
    builder.setHi(hi);
    builder.setLo(lo);
  }

  /// Lower-case canonical text.
  std::string text() const;

  /// The 16 bytes in network order: sorts as the text does.
  std::array<unsigned char, 16> bytes() const;

  explicit operator bool() const {
    return (hi | lo) != 0;
  }

  friend auto operator<=>(const uuid&, const uuid&) = default;
};

inline std::string to_string(const uuid& id) {
  return id.text();
}

} // namespace coppice

template <>
struct std::hash<coppice::uuid> {
  std::size_t operator()(const coppice::uuid& id) const noexcept {
    std::size_t seed = static_cast<std::size_t>(id.hi);
    boost::hash_combine(seed, id.lo);
    return seed;
  }
};
