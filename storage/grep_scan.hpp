#pragma once

#include "protocol/result.hpp"
#include "storage/grep_pattern.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace coppice::storage {

struct grep_line {
  std::uint64_t number = 0;                    ///< from 1
  std::uint64_t offset_bytes = 0;              ///< in the file
  std::string text;                            ///< with its end; cut at line_bytes_max
  std::vector<line_matcher::match> submatches; ///< within the text
  bool is_context = false;

  static constexpr std::size_t line_bytes_max = 16u << 10;
  static constexpr std::size_t submatches_max = 256;
};

struct grep_terms {
  std::uint64_t matches_max = 0; ///< matching lines
  std::uint32_t before = 0;      ///< lines of context, lines_around_max at most
  std::uint32_t after = 0;

  static constexpr std::uint32_t lines_around_max = 100;
};

/// The lines of one file that match.
///
/// Problem: line by line is slow, and a file need not have lines. So the expression is searched for
/// in a window of the file at once, and lines are made only around what it found.
/// Guarantee: holds one window; a file with a zero byte is binary and has no lines from that window
/// on; a line longer than a window is searched window by window. The matcher outlives it.
class grep_scan {
public:
  static constexpr std::size_t window_bytes = 1u << 20;

  using read_content = std::function<result<void>(std::uint64_t offset, std::span<std::byte> out)>;
  using take_line = std::function<void(grep_line)>;

  grep_scan(const line_matcher& lines, grep_terms terms, read_content read,
            std::uint64_t size_bytes);

  /// Goes on to the next match and gives it with the lines around it. False: there is no more.
  result<bool> next_lines(const take_line& take);

private:
  result<bool> read_until(std::uint64_t end);
  result<bool> next_window();
  void tell_context_until(std::size_t end, const take_line& take);
  void tell_before(std::size_t line, const take_line& take);
  grep_line line_at(std::size_t begin, std::size_t end);
  void add_submatches(grep_line& line, std::size_t begin, std::size_t end) const;
  std::size_t line_end(std::size_t at) const;

  const line_matcher& lines_;
  grep_terms terms_;
  read_content read_;
  std::uint64_t size_bytes_;
  std::string window_;
  std::uint64_t window_offset_ = 0; ///< of its beginning in the file
  std::uint64_t read_bytes_ = 0;    ///< of the file, into windows so far
  std::size_t searched_ = 0;        ///< in the window: the beginning of a line
  std::size_t told_ = 0;            ///< in the window: lines before were given
  std::size_t whole_ = 0;           ///< in the window: the end of its last whole line
  std::size_t counted_ = 0;         ///< in the window: where line_number_ is
  std::uint64_t line_number_ = 1;
  std::uint64_t matches_ = 0;
  std::uint32_t after_left_ = 0;
};

} // namespace coppice::storage
