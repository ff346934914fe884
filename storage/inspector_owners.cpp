#include "storage/inspector_owners.hpp"

#include <algorithm>
#include <charconv>

namespace coppice::storage::inspection {

namespace {

constexpr std::size_t name_bytes_max = 64;

/// Cuts off what is before the separator, and the separator.
std::string_view take(std::string_view& text, char separator) {
  const auto end = std::min(text.find(separator), text.size());
  const auto out = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return out;
}

} // namespace

owner_names parse_owners(std::string_view text) {
  owner_names out;
  while (!text.empty()) {
    auto line = take(text, '\n');
    const auto name = take(line, ':');
    take(line, ':');
    const auto digits = take(line, ':');
    std::uint32_t number = 0;
    const auto* end = digits.data() + digits.size();
    auto [stopped, error] = std::from_chars(digits.data(), end, number);
    const bool is_plain =
        std::all_of(name.begin(), name.end(), [](char c) { return c > 0x20 && c < 0x7f; });
    if (error == std::errc{} && stopped == end && is_plain && !name.empty() &&
        name.size() <= name_bytes_max) {
      out.try_emplace(number, name);
    }
  }
  return out;
}

} // namespace coppice::storage::inspection
