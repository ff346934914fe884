#pragma once

#include "gateway/cli/settings_table.hpp"
#include "gateway/cli/units.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Rows of the settings table by kind of value, for the files that list them.
namespace coppice::cli {

/// Those of the HTTP API.
void add_http_settings(std::vector<setting>& rows);

using problem = std::optional<std::string>;

struct place {
  std::string_view section;
  std::string_view name;
};

/// `field` is a generic lambda that gives the member, so that one serves reading and writing.
template <class Field>
setting count_row(place at, Field field, std::uint32_t min, std::uint32_t max,
                  std::string_view summary) {
  auto kind = "number, " + std::to_string(min) + " to " + std::to_string(max);
  return {at.section,
          at.name,
          kind,
          summary,
          [field](const settings& s) { return std::to_string(field(s)); },
          [field, min, max, kind](settings& s, std::string_view text) -> problem {
            auto value = parse_count(text);
            if (!value || *value < min || *value > max) {
              return "must be a " + kind;
            }
            field(s) = static_cast<std::uint32_t>(*value);
            return std::nullopt;
          }};
}

template <class Field>
setting size_row(place at, Field field, std::uint64_t min, std::uint64_t max,
                 std::string_view summary) {
  auto kind = "size, " + size_text(min) + " to " + size_text(max);
  return {at.section,
          at.name,
          kind,
          summary,
          [field](const settings& s) { return size_text(field(s)); },
          [field, min, max, kind](settings& s, std::string_view text) -> problem {
            auto value = parse_size(text);
            if (!value || *value < min || *value > max) {
              return "must be a " + kind + ", written with a unit: B, KiB, MiB, GiB or TiB";
            }
            field(s) = *value;
            return std::nullopt;
          }};
}

template <class Field>
setting duration_row(place at, Field field, std::chrono::seconds min, std::chrono::seconds max,
                     std::string_view summary) {
  auto kind = "duration, " + duration_text(min) + " to " + duration_text(max);
  return {at.section,
          at.name,
          kind,
          summary,
          [field](const settings& s) { return duration_text(field(s)); },
          [field, min, max, kind](settings& s, std::string_view text) -> problem {
            auto value = parse_duration(text);
            if (!value || *value < min || *value > max) {
              return "must be a " + kind + ", in whole seconds with a unit: ms, s, m, h or d";
            }
            field(s) = *value;
            return std::nullopt;
          }};
}

template <class Field>
setting choice_row(place at, Field field, std::initializer_list<std::string_view> choices,
                   std::string_view summary) {
  std::vector<std::string_view> all{choices};
  std::string kind = "one of";
  for (auto c : all) {
    kind += (c == all.front() ? " " : ", ") + std::string{c};
  }
  return {at.section,
          at.name,
          kind,
          summary,
          [field](const settings& s) { return std::string{field(s)}; },
          [field, all, kind](settings& s, std::string_view text) -> problem {
            if (std::find(all.begin(), all.end(), text) == all.end()) {
              return "must be " + kind;
            }
            field(s) = text;
            return std::nullopt;
          }};
}

template <class Field>
setting flag_row(place at, Field field, std::string_view summary) {
  return {at.section,
          at.name,
          "true or false",
          summary,
          [field](const settings& s) { return std::string{field(s) ? "true" : "false"}; },
          [field](settings& s, std::string_view text) -> problem {
            if (text != "true" && text != "false") {
              return "must be true or false";
            }
            field(s) = text == "true";
            return std::nullopt;
          }};
}

template <class Field>
setting program_row(place at, Field field, std::string_view summary) {
  return {at.section,
          at.name,
          "program, a name in PATH or an absolute path",
          summary,
          [field](const settings& s) { return field(s); },
          [field](settings& s, std::string_view text) -> problem {
            if (text.empty() || (text.find('/') != text.npos && !text.starts_with('/'))) {
              return "must be the name of a program in PATH or an absolute path";
            }
            field(s) = text;
            return std::nullopt;
          }};
}

template <class Field>
setting path_row(place at, Field field, bool may_be_empty, std::string_view summary) {
  std::string kind = may_be_empty ? "absolute path, or empty" : "absolute path";
  return {at.section,
          at.name,
          kind,
          summary,
          [field](const settings& s) { return std::filesystem::path{field(s)}.string(); },
          [field, may_be_empty, kind](settings& s, std::string_view text) -> problem {
            if (text.empty() ? !may_be_empty : !text.starts_with('/')) {
              return "must be an " + kind;
            }
            field(s) = std::string{text};
            return std::nullopt;
          }};
}

// A member of the settings as a generic lambda.
#define FIELD(path)                                                                                \
  [](auto& s) -> auto& {                                                                           \
    return s.path;                                                                                 \
  }

inline constexpr std::uint64_t kib = 1ull << 10;
inline constexpr std::uint64_t mib = 1ull << 20;
inline constexpr std::uint64_t gib = 1ull << 30;
inline constexpr std::uint64_t tib = 1ull << 40;

} // namespace coppice::cli
