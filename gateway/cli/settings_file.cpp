#include "gateway/cli/settings_file.hpp"

#include "gateway/cli/settings_table.hpp"

#include <cerrno>
#include <fstream>
#include <map>
#include <sstream>
#include <system_error>

namespace coppice::cli {
namespace {

constexpr std::size_t file_bytes_max = 1u << 20;
constexpr std::size_t text_width = 96;

failure invalid(std::string text) {
  return {std::make_error_code(std::errc::invalid_argument), std::move(text)};
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view blanks = " \t\r";
  auto first = text.find_first_not_of(blanks);
  if (first == text.npos) {
    return {};
  }
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

/// What is wrong with setting `key` to `value`, or nothing.
std::optional<std::string> assign(settings& values, const std::string& key,
                                  std::string_view value) {
  const auto* row = find_setting(key);
  if (row == nullptr) {
    return "unknown key " + key + "; the nearest is " + nearest_key(key) +
           ". 'coppice serve --help' lists all keys";
  }
  if (value.find('\0') != value.npos) {
    return key + " contains a NUL character";
  }
  if (auto wrong = row->set(values, value)) {
    return key + " " + *wrong + "; it is '" + std::string{value} + "'";
  }
  return std::nullopt;
}

/// Reads line by line; keeps the section it is in and where each key was first seen.
class parser {
public:
  explicit parser(settings base) : values_{std::move(base)} {}

  std::optional<std::string> take(std::string_view line, std::size_t number) {
    line = trimmed(line);
    if (line.empty() || line.front() == '#' || line.front() == ';') {
      return std::nullopt;
    }
    if (line.front() == '[') {
      return take_section(line);
    }
    auto equals = line.find('=');
    if (equals == line.npos) {
      return "expected 'key = value', a [section] or a # comment, not '" + std::string{line} + "'";
    }
    auto name = trimmed(line.substr(0, equals));
    auto key = section_.empty() ? std::string{name} : section_ + "." + std::string{name};
    if (auto wrong = assign(values_, key, trimmed(line.substr(equals + 1)))) {
      return wrong;
    }
    auto [seen, is_first] = seen_.emplace(key, number);
    if (!is_first) {
      return key + " was already set in line " + std::to_string(seen->second);
    }
    return std::nullopt;
  }

  settings values() && {
    return std::move(values_);
  }

private:
  std::optional<std::string> take_section(std::string_view line) {
    auto name = line.back() == ']' ? trimmed(line.substr(1, line.size() - 2)) : std::string_view{};
    if (name.empty() || section_title(name).empty()) {
      std::string known;
      for (const auto& row : settings_table()) {
        auto section = "[" + std::string{row.section} + "]";
        if (!row.section.empty() && known.find(section) == known.npos) {
          known += (known.empty() ? "" : " ") + section;
        }
      }
      return "unknown section " + std::string{line} + "; there are " + known;
    }
    section_ = name;
    return std::nullopt;
  }

  settings values_;
  std::string section_;
  std::map<std::string, std::size_t> seen_;
};

std::optional<std::string> contradiction(const settings& values) {
  if (values.limits.instance_timeout_default > values.limits.instance_timeout_max) {
    return "limits.instance_timeout_default is above limits.instance_timeout_max";
  }
  if (values.http.tls_certificate.empty() != values.http.tls_key.empty()) {
    return "http.tls_certificate and http.tls_key belong together: set both, or neither";
  }
  return std::nullopt;
}

} // namespace

result<settings> parse_settings(std::string_view text, std::string_view name, settings base) {
  parser file{std::move(base)};
  for (std::size_t number = 1; !text.empty(); ++number) {
    auto end = text.find('\n');
    auto line = text.substr(0, end);
    text = end == text.npos ? std::string_view{} : text.substr(end + 1);
    if (auto wrong = file.take(line, number)) {
      return invalid(std::string{name} + ":" + std::to_string(number) + ": " + *wrong);
    }
  }
  return std::move(file).values();
}

result<settings> read_settings(const std::filesystem::path& file) {
  std::ifstream stream{file, std::ios::binary};
  std::string text(file_bytes_max + 1, '\0');
  if (!stream.read(text.data(), static_cast<std::streamsize>(text.size())) && !stream.eof()) {
    std::error_code reason{errno, std::generic_category()};
    return failure{reason,
                   "cannot read the configuration file " + file.string() + ": " + reason.message()};
  }
  text.resize(static_cast<std::size_t>(stream.gcount()));
  if (text.size() > file_bytes_max) {
    return invalid(file.string() + " is larger than 1 MiB: not a configuration file");
  }
  return parse_settings(text, file.string());
}

result<std::vector<setting_override>> overrides_from(const std::vector<std::string>& arguments) {
  std::vector<setting_override> overrides;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string_view argument = arguments[i];
    if (!argument.starts_with("--") || argument.size() == 2) {
      return invalid("unexpected argument '" + arguments[i] + "'");
    }
    argument.remove_prefix(2);
    auto equals = argument.find('=');
    if (equals != argument.npos) {
      overrides.emplace_back(argument.substr(0, equals), argument.substr(equals + 1));
    } else if (i + 1 < arguments.size() && !arguments[i + 1].starts_with("--")) {
      overrides.emplace_back(argument, arguments[++i]);
    } else if (find_setting(argument) != nullptr) {
      return invalid("--" + std::string{argument} + " needs a value");
    } else {
      overrides.emplace_back(argument, ""); // refused as unknown, with the nearest key
    }
  }
  return overrides;
}

result<settings> load_settings(const std::filesystem::path& file,
                               const std::vector<setting_override>& overrides) {
  auto path = file;
  std::error_code ignored;
  if (path.empty() && std::filesystem::exists(default_config_path, ignored)) {
    path = default_config_path;
  }
  auto loaded = path.empty() ? result<settings>{settings{}} : read_settings(path);
  if (!loaded) {
    return loaded;
  }
  for (const auto& [key, value] : overrides) {
    if (auto wrong = assign(*loaded, key, value)) {
      return invalid("command line: " + *wrong);
    }
  }
  if (auto wrong = contradiction(*loaded)) {
    return invalid((path.empty() ? std::string{"settings"} : path.string()) + ": " + *wrong);
  }
  return loaded;
}

std::string render_settings(const settings& values) {
  std::string text =
      "# Coppice: every setting with its default.\n"
      "#\n"
      "# A line is `key = value`; a comment fills its line. Sizes and durations carry a unit: B, "
      "KiB,\n"
      "# MiB, GiB, TiB; ms, s, m, h, d. An unknown key is an error, an absent one has the default\n"
      "# below. Any key can be given on the command line instead: `coppice serve --vm.cpus=2`.\n"
      "# Changes take effect when the daemon is started again.\n";
  std::string_view section;
  for (const auto& row : settings_table()) {
    if (row.section != section) {
      section = row.section;
      text +=
          "\n# -- " + std::string{section_title(section)} + "\n[" + std::string{section} + "]\n";
    }
    text += "\n" + wrapped(row.summary, "# ", text_width) + "# (" + row.kind + ")\n";
    auto value = row.get(values);
    text += std::string{row.name} + " =" + (value.empty() ? "" : " ") + value + "\n";
  }
  return text;
}

std::string settings_help() {
  const settings defaults;
  std::string text = "Settings come from the file given with --config, else from " +
                     std::string{default_config_path} +
                     "\nif it is there; each can be overridden as --section.key=value. An unknown "
                     "key is an error.\n"
                     "Sizes take B KiB MiB GiB TiB, durations ms s m h d.\n";
  std::string_view section = "none yet";
  for (const auto& row : settings_table()) {
    if (row.section != section) {
      section = row.section;
      text += "\n" + std::string{section_title(section)} + ":\n";
    }
    auto value = row.get(defaults);
    text += "  --" + row.key() + "=" + (value.empty() ? "(empty)" : value) + "\n";
    text += "        (" + row.kind + ")\n";
    text += wrapped(row.summary, "        ", text_width);
  }
  return text;
}

std::string wrapped(std::string_view text, std::string_view indent, std::size_t width) {
  std::istringstream words{std::string{text}};
  std::string out;
  std::string line{indent};
  std::string word;
  while (words >> word) {
    bool is_first = line.size() == indent.size();
    if (!is_first && line.size() + 1 + word.size() > width) {
      out += line + "\n";
      line = indent;
      is_first = true;
    }
    line += (is_first ? "" : " ") + word;
  }
  return out + line + "\n";
}

} // namespace coppice::cli
