#pragma once

#include "protocol/result.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// What a search in the files of an image looks for, and in which. Plain, so that it is checked
/// where the request comes in and used where the files are.
namespace coppice::storage {

enum class grep_case : std::uint8_t {
  sensitive,
  insensitive,
  smart, ///< insensitive unless a pattern has an upper-case letter
};

/// Regular expressions of which any one may match, in RE2's syntax.
///
/// Guarantee: time linear in the text, memory bounded, whatever the expression. A match never goes
/// over the end of a line. One thread at a time.
class line_matcher {
public:
  /// unsupported: an expression that is none, or too large; the text says which and why.
  static result<line_matcher> compile(const std::vector<std::string>& patterns, grep_case how);

  line_matcher(line_matcher&&) noexcept;
  line_matcher& operator=(line_matcher&&) noexcept;
  ~line_matcher();

  struct match {
    std::size_t begin = 0;
    std::size_t end = 0;
  };
  /// The first match in `text` that begins in [from, to).
  std::optional<match> find(std::string_view text, std::size_t from, std::size_t to) const;

private:
  struct impl;
  explicit line_matcher(std::unique_ptr<impl> state);
  std::unique_ptr<impl> impl_;
};

/// Which files are looked at, as ripgrep's --glob: a pattern without a slash is for names anywhere,
/// one with a slash for paths from the start of the search (or from the image's root, if it begins
/// with one); `*`, `?`, `[…]`, `{a,b}` and `**`; `!` excludes. The last one that matches decides;
/// where there is one without `!`, what none matches is left out.
class glob_set {
public:
  /// unsupported: with what is wrong.
  static result<glob_set> compile(const std::vector<std::string>& globs);

  glob_set(glob_set&&) noexcept;
  glob_set& operator=(glob_set&&) noexcept;
  ~glob_set();

  /// `path`: from the image's root, without the first slash; `root_bytes`: how much of it is the
  /// start of the search, with its slash.
  bool wants_file(std::string_view path, std::size_t root_bytes) const;
  /// Whether anything in it may be wanted.
  bool enters(std::string_view path, std::size_t root_bytes) const;

private:
  struct impl;
  explicit glob_set(std::unique_ptr<impl> state);
  std::unique_ptr<impl> impl_;
};

} // namespace coppice::storage
