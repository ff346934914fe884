#include "gateway/cli/lists.hpp"

#include "gateway/cli/units.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

namespace coppice::cli {
namespace {

/// 0 for what is not a number in [min, max]; min is more than that.
std::uint32_t count_in(std::string_view text, std::uint32_t min, std::uint32_t max) {
  auto count = parse_count(text).value_or(0);
  return count < min || count > max ? 0 : static_cast<std::uint32_t>(count);
}

std::optional<machine_class> parse_class(std::string_view text) {
  auto colon = text.find(':');
  if (colon == text.npos) {
    return std::nullopt;
  }
  machine_class out{count_in(text.substr(0, colon), 1, class_cpus_max),
                    count_in(text.substr(colon + 1), class_memory_mib_min, class_memory_mib_max)};
  return out.cpus == 0 || out.memory_mib == 0 ? std::nullopt : std::optional{out};
}

std::string text_of(const machine_class& c) {
  return std::to_string(c.cpus) + ":" + std::to_string(c.memory_mib);
}

} // namespace

std::vector<std::string> items_of(std::string_view text) {
  std::vector<std::string> items;
  while (!text.empty()) {
    auto comma = text.find(',');
    auto item = text.substr(0, comma);
    text = comma == text.npos ? std::string_view{} : text.substr(comma + 1);
    auto first = item.find_first_not_of(" \t");
    auto last = item.find_last_not_of(" \t");
    items.emplace_back(first == item.npos ? std::string_view{}
                                          : item.substr(first, last - first + 1));
  }
  return items;
}

bool is_network(std::string_view text) {
  auto slash = text.find('/');
  const std::string address{text.substr(0, slash)};
  in6_addr bytes{};
  unsigned bits_max = 0;
  if (::inet_pton(AF_INET, address.c_str(), &bytes) == 1) {
    bits_max = 32;
  } else if (::inet_pton(AF_INET6, address.c_str(), &bytes) == 1) {
    bits_max = 128;
  }
  auto bits =
      slash == text.npos ? std::optional<std::uint64_t>{0} : parse_count(text.substr(slash + 1));
  return bits_max > 0 && bits && *bits <= bits_max;
}

std::string text_of_items(const std::vector<std::string>& items) {
  std::string text;
  for (const auto& item : items) {
    text += (text.empty() ? "" : ", ") + item;
  }
  return text;
}

std::optional<std::vector<machine_class>> parse_classes(std::string_view text) {
  std::vector<machine_class> classes;
  for (const auto& item : items_of(text)) {
    auto one = parse_class(item);
    if (!one || classes.size() == classes_max) {
      return std::nullopt;
    }
    classes.push_back(*one);
  }
  return classes;
}

std::string text_of_classes(const std::vector<machine_class>& classes) {
  std::vector<std::string> items;
  for (const auto& c : classes) {
    items.push_back(text_of(c));
  }
  return text_of_items(items);
}

std::string classes_kind() {
  return "at most " + std::to_string(classes_max) + " of CPUS:MIB, separated by commas, " +
         text_of({1, class_memory_mib_min}) + " to " +
         text_of({class_cpus_max, class_memory_mib_max});
}

} // namespace coppice::cli
