#include "gateway/http/byte_range.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

namespace coppice::gateway {
namespace {

/// Nothing when the text is not a number; one that is too large is as good as the largest.
std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto* end = text.data() + text.size();
  auto [stopped, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || stopped != end || error == std::errc::invalid_argument) {
    return std::nullopt;
  }
  return error == std::errc{} ? value : std::numeric_limits<std::uint64_t>::max();
}

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == text.npos) {
    return {};
  }
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

} // namespace

std::optional<range_request> range_request::parse(std::string_view header) {
  constexpr std::string_view unit = "bytes=";
  header = trimmed(header);
  const bool is_bytes =
      header.size() > unit.size() &&
      std::equal(unit.begin(), unit.end(), header.begin(), [](char wanted, char given) {
        return wanted == (given >= 'A' && given <= 'Z' ? given - 'A' + 'a' : given);
      });
  if (!is_bytes) {
    return std::nullopt;
  }
  const auto text = trimmed(header.substr(unit.size()));
  const auto dash = text.find('-');
  if (dash == text.npos) {
    return std::nullopt;
  }
  range_request out;
  out.first_ = parse_number(text.substr(0, dash));
  const auto last = parse_number(text.substr(dash + 1));
  const bool is_open = dash + 1 == text.size();
  if ((dash > 0 && !out.first_) || (!is_open && !last) || (dash == 0 && is_open)) {
    return std::nullopt;
  }
  out.last_ = last.value_or(std::numeric_limits<std::uint64_t>::max());
  if (out.first_ && *out.first_ > out.last_) {
    return std::nullopt;
  }
  return out;
}

std::optional<byte_range> range_request::of(std::uint64_t size_bytes) const {
  if (!first_) {
    const auto bytes = std::min(last_, size_bytes);
    return bytes == 0 ? std::nullopt : std::optional{byte_range{size_bytes - bytes, bytes}};
  }
  if (*first_ >= size_bytes) {
    return std::nullopt;
  }
  return byte_range{*first_, std::min(last_, size_bytes - 1) - *first_ + 1};
}

} // namespace coppice::gateway
