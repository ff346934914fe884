#include "gateway/cli/units.hpp"

#include <array>
#include <charconv>
#include <limits>

namespace coppice::cli {
namespace {

struct unit {
  std::string_view name;
  std::uint64_t factor;
};

constexpr std::array<unit, 5> size_units{
    {{"B", 1}, {"KiB", 1ull << 10}, {"MiB", 1ull << 20}, {"GiB", 1ull << 30}, {"TiB", 1ull << 40}}};

// In milliseconds, the smallest that can be written.
constexpr std::array<unit, 5> duration_units{
    {{"ms", 1}, {"s", 1'000}, {"m", 60'000}, {"h", 3'600'000}, {"d", 86'400'000}}};

template <std::size_t N>
std::optional<std::uint64_t> parse_with(std::string_view text, const std::array<unit, N>& units) {
  auto digits = text.find_first_not_of("0123456789");
  auto number = parse_count(text.substr(0, digits));
  if (!number) {
    return std::nullopt;
  }
  if (digits == std::string_view::npos) {
    return *number == 0 ? number : std::nullopt;
  }
  auto name = text.substr(digits);
  if (name.starts_with(' ')) {
    name.remove_prefix(1);
  }
  for (const auto& u : units) {
    if (u.name == name) {
      if (*number > std::numeric_limits<std::uint64_t>::max() / u.factor) {
        return std::nullopt;
      }
      return *number * u.factor;
    }
  }
  return std::nullopt;
}

template <std::size_t N>
std::string text_with(std::uint64_t value, const std::array<unit, N>& units) {
  if (value == 0) {
    return "0";
  }
  const unit* best = &units[0];
  for (const auto& u : units) {
    if (value % u.factor == 0) {
      best = &u;
    }
  }
  return std::to_string(value / best->factor) + std::string{best->name};
}

} // namespace

std::optional<std::uint64_t> parse_count(std::string_view text) {
  std::uint64_t number = 0;
  auto end = text.data() + text.size();
  auto [stop, error] = std::from_chars(text.data(), end, number);
  if (text.empty() || error != std::errc{} || stop != end) {
    return std::nullopt;
  }
  return number;
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  return parse_with(text, size_units);
}

std::optional<std::chrono::seconds> parse_duration(std::string_view text) {
  auto ms = parse_with(text, duration_units);
  if (!ms || *ms % 1000 != 0) {
    return std::nullopt;
  }
  return std::chrono::seconds{static_cast<std::int64_t>(*ms / 1000)};
}

std::string size_text(std::uint64_t bytes) {
  return bytes == 0 ? "0" : text_with(bytes, size_units);
}

std::string duration_text(std::chrono::seconds duration) {
  auto seconds = duration.count() < 0 ? 0u : static_cast<std::uint64_t>(duration.count());
  return seconds == 0 ? "0" : text_with(seconds * 1000, duration_units);
}

std::string human_size(std::uint64_t bytes) {
  const unit* best = &size_units[0];
  for (const auto& u : size_units) {
    if (bytes >= u.factor) {
      best = &u;
    }
  }
  auto whole = bytes / best->factor;
  auto tenths = (bytes % best->factor) * 10 / best->factor;
  auto text = std::to_string(whole);
  if (tenths != 0 && whole < 100) {
    text += "." + std::to_string(tenths);
  }
  return text + " " + std::string{best->name};
}

} // namespace coppice::cli
