#include "storage/grep_pattern.hpp"

#include "storage/error.hpp"
#include "storage/printable.hpp"

#include <re2/re2.h>

#include <algorithm>
#include <utility>

namespace coppice::storage {

namespace {

/// Of an expression and its cache of states: RE2 searches slower where that would need more.
constexpr std::int64_t search_bytes_max = 16ll << 20;
/// What the programs of all patterns may need by RE2's count, which refuses what needs more: some
/// ten milliseconds of work, on the thread that serves everybody.
constexpr std::int64_t program_bytes_max = 1ll << 20;
/// What an instruction takes of that, roughly: programs tell their size in instructions.
constexpr std::int64_t instruction_bytes = 16;
/// Too little for any program. RE2 takes none at all for no limit.
constexpr std::int64_t no_program_bytes = 64;
constexpr std::size_t pattern_bytes_max = 4096;
constexpr std::size_t patterns_max = 64;

RE2::Options options_for(bool is_sensitive, std::int64_t bytes_max = search_bytes_max) {
  RE2::Options out;
  out.set_log_errors(false);
  out.set_never_nl(true);
  out.set_case_sensitive(is_sensitive);
  out.set_max_mem(bytes_max);
  return out;
}

/// Whether a pattern names an upper-case letter: not one that a backslash makes a class of.
bool has_upper(std::string_view pattern) {
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    if (pattern[at] == '\\') {
      ++at;
    } else if (pattern[at] >= 'A' && pattern[at] <= 'Z') {
      return true;
    }
  }
  return false;
}

result<void> check_counts(const std::vector<std::string>& patterns, const char* what) {
  const bool is_long = std::any_of(patterns.begin(), patterns.end(), [](const std::string& p) {
    return p.size() > pattern_bytes_max;
  });
  if (patterns.size() > patterns_max || is_long) {
    return fail(ec::unsupported, std::string{what} + ": at most " + std::to_string(patterns_max) +
                                     ", each of " + std::to_string(pattern_bytes_max) + " bytes");
  }
  return {};
}

} // namespace

// -- lines ---------------------------------------------------------------------------------------

struct line_matcher::impl {
  impl(const std::string& pattern, bool is_sensitive)
      : expression{pattern, options_for(is_sensitive)} {}
  RE2 expression;
};

line_matcher::line_matcher(std::unique_ptr<impl> state) : impl_{std::move(state)} {}
line_matcher::line_matcher(line_matcher&&) noexcept = default;
line_matcher& line_matcher::operator=(line_matcher&&) noexcept = default;
line_matcher::~line_matcher() = default;

result<line_matcher> line_matcher::compile(const std::vector<std::string>& patterns,
                                           grep_case how) {
  if (patterns.empty()) {
    return fail(ec::unsupported, "pattern is required");
  }
  if (auto counted = check_counts(patterns, "patterns"); !counted) {
    return counted.error();
  }
  const bool is_sensitive =
      how == grep_case::sensitive ||
      (how == grep_case::smart && std::any_of(patterns.begin(), patterns.end(), has_upper));
  std::string all;
  auto left_bytes = program_bytes_max;
  for (const auto& pattern : patterns) {
    // Each for itself first: half a group of one must not meet the other half in the next.
    const RE2 alone{pattern, options_for(is_sensitive, left_bytes)};
    if (!alone.ok()) {
      return fail(ec::unsupported,
                  "pattern " + printable(pattern) + " is no regular expression: " + alone.error());
    }
    left_bytes = std::max(left_bytes - alone.ProgramSize() * instruction_bytes, no_program_bytes);
    all += all.empty() ? "(?m:" : "|(?m:";
    all += pattern;
    all += ')';
  }
  auto made = std::make_unique<impl>(all, is_sensitive);
  if (!made->expression.ok()) {
    return fail(ec::unsupported,
                "the patterns are no regular expression together: " + made->expression.error());
  }
  return line_matcher{std::move(made)};
}

std::optional<line_matcher::match> line_matcher::find(std::string_view text, std::size_t from,
                                                      std::size_t to) const {
  re2::StringPiece found;
  const re2::StringPiece all{text.data(), text.size()};
  if (!impl_->expression.Match(all, from, to, RE2::UNANCHORED, &found, 1)) {
    return std::nullopt;
  }
  const auto begin = static_cast<std::size_t>(found.data() - text.data());
  return match{begin, begin + found.size()};
}

// -- globs ---------------------------------------------------------------------------------------

namespace {

struct glob {
  std::unique_ptr<RE2> expression;
  bool excludes = false;
  bool is_for_names = false; ///< anywhere
  bool is_from_root = false;
  bool is_for_directories = false;
};

/// The end of a class that begins at `at`, or npos.
std::size_t class_end(std::string_view text, std::size_t at) {
  auto begin = at + 1;
  if (begin < text.size() && (text[begin] == '!' || text[begin] == '^')) {
    ++begin;
  }
  return text.find(']', begin + 1);
}

/// `**` and what is around it.
std::size_t add_stars(std::string_view text, std::size_t at, std::string& out) {
  auto end = text.find_first_not_of('*', at);
  end = end == text.npos ? text.size() : end;
  const bool is_component =
      (at == 0 || text[at - 1] == '/') && (end == text.size() || text[end] == '/') && end - at == 2;
  if (!is_component) {
    out += "[^/]*";
  } else if (end == text.size()) {
    out += ".*";
  } else {
    out += "(?:.*/)?";
    ++end;
  }
  return end;
}

/// The regular expression of a glob; nothing where it is malformed.
std::optional<std::string> translate(std::string_view text) {
  std::string out;
  int depth = 0;
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (c == '*') {
      at = add_stars(text, at, out);
      continue;
    }
    if (c == '[') {
      const auto end = class_end(text, at);
      if (end == text.npos) {
        return std::nullopt;
      }
      const bool is_negated = text[at + 1] == '!' || text[at + 1] == '^';
      out += is_negated ? "[^/" : "[";
      for (auto inner : text.substr(at + (is_negated ? 2 : 1), end - at - (is_negated ? 2 : 1))) {
        out += inner == '\\' || inner == '[' || inner == ']' || inner == '^' ? "\\" : "";
        out += inner;
      }
      out += ']';
      at = end + 1;
      continue;
    }
    if (c == '?') {
      out += "[^/]";
    } else if (c == '{') {
      out += "(?:";
      ++depth;
    } else if (c == '}' && depth > 0) {
      out += ')';
      --depth;
    } else if (c == ',' && depth > 0) {
      out += '|';
    } else {
      at += c == '\\' && at + 1 < text.size() ? 1 : 0;
      out += RE2::QuoteMeta({text.data() + at, 1});
    }
    ++at;
  }
  return depth == 0 ? std::optional{std::move(out)} : std::nullopt;
}

result<glob> compile_glob(std::string_view text) {
  const auto given = text;
  glob out;
  if (text.starts_with('!')) {
    out.excludes = true;
    text.remove_prefix(1);
  }
  if (text.ends_with('/')) {
    out.is_for_directories = true;
    text.remove_suffix(1);
  }
  out.is_for_names = text.find('/') == text.npos;
  if (text.starts_with('/')) {
    out.is_from_root = true;
    text.remove_prefix(1);
  }
  auto expression = text.empty() ? std::nullopt : translate(text);
  if (expression) {
    RE2::Options how;
    how.set_log_errors(false);
    how.set_encoding(RE2::Options::EncodingLatin1); // names are bytes
    how.set_dot_nl(true);
    how.set_max_mem(1 << 20);
    out.expression = std::make_unique<RE2>(*expression, how);
  }
  if (!out.expression || !out.expression->ok()) {
    return fail(ec::unsupported, "glob " + printable(given) + " is malformed");
  }
  return out;
}

} // namespace

struct glob_set::impl {
  std::vector<glob> globs;
  bool has_wanted = false;

  /// The last one that matches; null: none does.
  const glob* decisive(std::string_view path, std::size_t root_bytes, bool is_directory) const {
    const auto slash = path.rfind('/');
    const auto name = path.substr(slash == path.npos ? 0 : slash + 1);
    const auto below = path.substr(std::min(root_bytes, path.size()));
    for (auto at = globs.rbegin(); at != globs.rend(); ++at) {
      const auto text = at->is_from_root ? path : at->is_for_names ? name : below;
      if ((is_directory || !at->is_for_directories) &&
          RE2::FullMatch({text.data(), text.size()}, *at->expression)) {
        return &*at;
      }
    }
    return nullptr;
  }
};

glob_set::glob_set(std::unique_ptr<impl> state) : impl_{std::move(state)} {}
glob_set::glob_set(glob_set&&) noexcept = default;
glob_set& glob_set::operator=(glob_set&&) noexcept = default;
glob_set::~glob_set() = default;

result<glob_set> glob_set::compile(const std::vector<std::string>& globs) {
  if (auto counted = check_counts(globs, "globs"); !counted) {
    return counted.error();
  }
  auto made = std::make_unique<impl>();
  for (const auto& text : globs) {
    auto compiled = compile_glob(text);
    if (!compiled) {
      return compiled.error();
    }
    made->has_wanted = made->has_wanted || !compiled->excludes;
    made->globs.push_back(std::move(*compiled));
  }
  return glob_set{std::move(made)};
}

bool glob_set::wants_file(std::string_view path, std::size_t root_bytes) const {
  const auto* last = impl_->decisive(path, root_bytes, false);
  return last ? !last->excludes : !impl_->has_wanted;
}

bool glob_set::enters(std::string_view path, std::size_t root_bytes) const {
  const auto* last = impl_->decisive(path, root_bytes, true);
  return !last || !last->excludes;
}

} // namespace coppice::storage
