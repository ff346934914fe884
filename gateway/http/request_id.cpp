#include "gateway/http/request_id.hpp"

#include "protocol/uuid.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

namespace coppice::gateway {
namespace {

/// Longer ones would only fill the log.
constexpr std::size_t request_id_bytes_max = 128;

constexpr std::string_view separators = "-_.:/+=,@";

bool is_id_char(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         separators.find(c) != std::string_view::npos;
}

} // namespace

std::string make_request_id(std::uint64_t number) {
  static const auto start = uuid::random();
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%08x-%llx", static_cast<unsigned>(start.hi),
                static_cast<unsigned long long>(number));
  return text.data();
}

bool is_request_id(std::string_view text) {
  return !text.empty() && text.size() <= request_id_bytes_max &&
         std::all_of(text.begin(), text.end(), is_id_char);
}

} // namespace coppice::gateway
