#pragma once

#include "actors/settings.hpp"
#include "protocol/result.hpp"

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// The configuration file (configs/coppice.ini) and the overrides on the command line.
///
/// Problem: a misspelled key that is silently ignored is found when it is too late. So every key
/// must be known, every value must fit its unit and range, no key may come twice, and an error says
/// file, line, key, and what to write instead.
namespace coppice::cli {

/// Where the file is looked for when none is named.
inline constexpr std::string_view default_config_path = "/etc/coppice/coppice.ini";

/// Lines of `key = value`, `[section]`, and comments that start with # or ; and fill their line.
/// `name` stands before the line number in errors. Keys that are absent keep what `base` has.
result<settings> parse_settings(std::string_view text, std::string_view name, settings base = {});

/// Reads a file of at most 1 MiB.
result<settings> read_settings(const std::filesystem::path& file);

/// A `section.key` and its value, as given on the command line.
using setting_override = std::pair<std::string, std::string>;

/// Overrides from arguments `--section.key=value` or `--section.key value`. Keys and values are
/// checked by `load_settings`.
result<std::vector<setting_override>> overrides_from(const std::vector<std::string>& arguments);

/// `file` if it is not empty, else the default file if it exists, else the defaults; then the
/// overrides in order; then the rules between settings.
result<settings> load_settings(const std::filesystem::path& file,
                               const std::vector<setting_override>& overrides);

/// The whole configuration file for these values, with a comment on every key.
std::string render_settings(const settings& values);

/// The settings part of `coppice serve --help`: by section, with unit, range and default.
std::string settings_help();

/// `text` in lines of at most `width` columns, each after `indent`.
std::string wrapped(std::string_view text, std::string_view indent, std::size_t width);

} // namespace coppice::cli
