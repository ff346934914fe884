#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

/// The part of a body that a client asks for (RFC 9110, Range).
namespace coppice::gateway {

struct byte_range {
  std::uint64_t first = 0;
  std::uint64_t bytes = 0;

  friend bool operator==(const byte_range&, const byte_range&) = default;
};

/// A Range header, before the size of the body is known. Nothing when it is none that we serve (no
/// bytes, several ranges, nonsense): the whole body is the answer then, which is always allowed.
class range_request {
public:
  static std::optional<range_request> parse(std::string_view header);

  /// What of a body of that size is asked for; nothing: not satisfiable, 416.
  std::optional<byte_range> of(std::uint64_t size_bytes) const;

private:
  std::optional<std::uint64_t> first_; ///< nothing: the last `last_` bytes
  std::uint64_t last_ = 0;             ///< inclusive
};

} // namespace coppice::gateway
