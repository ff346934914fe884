#pragma once

#include "actors/settings.hpp"

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

/// The one table of everything an operator can set.
///
/// Problem: file, command line, help and documentation each list the settings, and lists drift
/// apart. Here a setting is one row; parsing, overrides, `serve --help` and configs/coppice.ini all
/// come from the rows.
namespace coppice::cli {

struct setting {
  std::string_view section; ///< empty for the keys before the first section
  std::string_view name;
  std::string kind;         ///< unit and range, for people: "size, 64KiB to 1GiB"
  std::string_view summary; ///< one or two sentences, for people

  /// The value as it is written in the file.
  std::function<std::string(const settings&)> get;
  /// Takes a value as it is written in the file, or says what is wrong with it.
  std::function<std::optional<std::string>(settings&, std::string_view)> set;

  /// `section.name`, as in errors and on the command line.
  std::string key() const;
};

/// Every setting, those of one section together, in the order of the file.
std::span<const setting> settings_table();

/// One line that says what a section is about.
std::string_view section_title(std::string_view section);

/// The row of `key`, or null.
const setting* find_setting(std::string_view key);

/// The existing key that looks most like `key`, for errors.
std::string nearest_key(std::string_view key);

} // namespace coppice::cli
