#pragma once

#include "gateway/http/refusal.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

/// What a request's head must be before any of it is believed.
///
/// Problem: a parser that is lenient about where a request ends (two lengths, a coding it does not
/// know, folded lines, bare line feeds) disagrees with the proxy before it, and one client's body
/// becomes another's request. Beast's parser takes several of these. Guarantee: a head that passes
/// here has one meaning, by RFC 9112, and is within the limits; all others are refused with what is
/// wrong. Plain, so that it can be fuzzed.
namespace coppice::gateway {

struct head_limits {
  std::uint64_t line_bytes_max = 16u << 10;    ///< of the request line; longer: 414
  std::uint64_t headers_bytes_max = 32u << 10; ///< of all that follows it; more: 431
  std::uint32_t headers_max = 100;             ///< lines of these
};

/// Finds the end of a head that arrives in pieces, and refuses early what cannot become one.
class head_scanner {
public:
  explicit head_scanner(const head_limits& limits) : limits_{limits} {}

  struct progress {
    std::optional<std::size_t> head_bytes; ///< the head is that long, with its empty line
    std::optional<refusal> refused;        ///< neither: more bytes are needed
  };

  /// `bytes`: all that came since the request began; each call has those of the one before first.
  progress scan(std::string_view bytes);

private:
  std::optional<refusal> check_sizes(std::size_t end, std::size_t line_end) const;

  head_limits limits_;
  std::size_t scanned_ = 0;            ///< complete lines end here
  std::size_t looked_at_ = 0;          ///< no line feed between `scanned_` and here
  std::size_t request_line_bytes_ = 0; ///< 0 until it is complete
  std::uint32_t lines_ = 0;
};

/// Whether a whole head has one meaning only; what is wrong with it otherwise.
std::optional<refusal> check_head(std::string_view head);

} // namespace coppice::gateway
