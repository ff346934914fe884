#include "storage/grep_scan.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace coppice::storage {

namespace {

/// Of a file, looked at for a zero byte before more is read.
constexpr std::uint64_t beginning_bytes = 64u << 10;

} // namespace

grep_scan::grep_scan(const line_matcher& lines, grep_terms terms, read_content read,
                     std::uint64_t size_bytes)
    : lines_{lines}, terms_{terms}, read_{std::move(read)}, size_bytes_{size_bytes} {
  terms_.before = std::min(terms_.before, grep_terms::lines_around_max);
  terms_.after = std::min(terms_.after, grep_terms::lines_around_max);
}

std::size_t grep_scan::line_end(std::size_t at) const {
  const auto end = window_.find('\n', at);
  return end == window_.npos || end >= whole_ ? whole_ : end + 1;
}

/// Adds what the file has up to an offset to the window. False: it is binary.
result<bool> grep_scan::read_until(std::uint64_t end) {
  const auto old = window_.size();
  const auto more = static_cast<std::size_t>(std::min(end, size_bytes_) - read_bytes_);
  window_.resize(old + more);
  auto fresh = std::span{window_}.subspan(old);
  if (auto read = read_(read_bytes_, std::as_writable_bytes(fresh)); !read) {
    return read.error();
  }
  read_bytes_ += more;
  return std::memchr(fresh.data(), 0, more) == nullptr;
}

/// Keeps what is not searched and the lines that may become context, and reads on. False: the file
/// is at its end, or binary.
result<bool> grep_scan::next_window() {
  if (read_bytes_ == size_bytes_) {
    return false;
  }
  // Lines before the next match may be wanted; a window without ends of lines has none to spare.
  auto keep = searched_;
  for (std::uint32_t i = 0; i < terms_.before && keep > told_; ++i) {
    const auto end = keep >= 2 ? window_.rfind('\n', keep - 2) : window_.npos;
    const auto begin = end == window_.npos ? 0 : end + 1;
    if (searched_ - begin > window_bytes / 4) {
      break;
    }
    keep = std::max(begin, told_);
  }
  line_number_ += static_cast<std::uint64_t>(
      keep >= counted_ ? std::count(window_.begin() + static_cast<std::ptrdiff_t>(counted_),
                                    window_.begin() + static_cast<std::ptrdiff_t>(keep), '\n')
                       : 0);
  if (keep < counted_) {
    line_number_ -= static_cast<std::uint64_t>(
        std::count(window_.begin() + static_cast<std::ptrdiff_t>(keep),
                   window_.begin() + static_cast<std::ptrdiff_t>(counted_), '\n'));
  }
  counted_ = 0;
  window_.erase(0, keep);
  window_offset_ += keep;
  searched_ -= keep;
  told_ = told_ > keep ? told_ - keep : 0;
  const auto held = window_.size();
  const auto end = read_bytes_ + (window_bytes > held ? window_bytes - held : window_bytes / 2);
  // The beginning tells of most binary files that they are: the rest need not be read.
  auto is_text = read_bytes_ == 0 ? read_until(std::min(end, beginning_bytes)) : true;
  if (is_text && *is_text) {
    is_text = read_until(end);
  }
  if (!is_text || !*is_text) {
    read_bytes_ = size_bytes_;
    return is_text;
  }
  const auto last = window_.rfind('\n');
  const bool is_whole = read_bytes_ == size_bytes_ || last == window_.npos || last < searched_;
  whole_ = is_whole ? window_.size() : last + 1;
  return true;
}

grep_line grep_scan::line_at(std::size_t begin, std::size_t end) {
  line_number_ += static_cast<std::uint64_t>(
      std::count(window_.begin() + static_cast<std::ptrdiff_t>(counted_),
                 window_.begin() + static_cast<std::ptrdiff_t>(begin), '\n'));
  counted_ = begin;
  grep_line out;
  out.number = line_number_;
  out.offset_bytes = window_offset_ + begin;
  out.text = window_.substr(begin, std::min(end - begin, grep_line::line_bytes_max));
  return out;
}

void grep_scan::add_submatches(grep_line& line, std::size_t begin, std::size_t end) const {
  const std::string_view text{window_.data(), whole_};
  for (auto at = begin; at < end && line.submatches.size() < grep_line::submatches_max;) {
    auto found = lines_.find(text, at, end);
    if (!found || found->begin >= end || found->begin - begin > line.text.size()) {
      break;
    }
    if (found->begin == end - 1 && text[found->begin] == '\n' && found->begin != begin &&
        found->end == found->begin && !line.submatches.empty()) {
      break; // nothing, at the end of the line
    }
    line.submatches.push_back(
        {found->begin - begin, std::min(found->end - begin, line.text.size())});
    at = found->end > at ? found->end : at + 1;
    if (found->end == found->begin) {
      at = found->end + 1;
    }
  }
}

/// Lines after a match, and nothing beyond `end`.
void grep_scan::tell_context_until(std::size_t end, const take_line& take) {
  while (after_left_ > 0 && told_ < end) {
    const auto next = line_end(told_);
    auto line = line_at(told_, next);
    line.is_context = true;
    take(std::move(line));
    told_ = next;
    --after_left_;
  }
}

void grep_scan::tell_before(std::size_t line, const take_line& take) {
  auto from = line;
  for (std::uint32_t i = 0; i < terms_.before && from > told_; ++i) {
    const auto end = from >= 2 ? window_.rfind('\n', from - 2) : window_.npos;
    from = std::max(end == window_.npos ? 0 : end + 1, told_);
  }
  while (from < line) {
    const auto next = line_end(from);
    auto context = line_at(from, next);
    context.is_context = true;
    take(std::move(context));
    from = next;
  }
}

result<bool> grep_scan::next_lines(const take_line& take) {
  const std::string_view text{window_.data(), whole_};
  const bool wants_more = matches_ < terms_.matches_max;
  if (!wants_more && after_left_ == 0) {
    return false;
  }
  auto found =
      wants_more && searched_ < whole_ ? lines_.find(text, searched_, whole_) : std::nullopt;
  // What is behind the end of the last line is no line.
  if (found && found->begin == whole_ && whole_ > 0 && text[whole_ - 1] == '\n') {
    found.reset();
  }
  if (!found) {
    tell_context_until(whole_, take);
    searched_ = whole_;
    return next_window();
  }
  const auto before = found->begin == 0 ? window_.npos : window_.rfind('\n', found->begin - 1);
  const auto begin = std::max(before == window_.npos ? 0 : before + 1, searched_);
  const auto end = line_end(found->begin);
  tell_context_until(begin, take);
  tell_before(begin, take);
  auto line = line_at(begin, end);
  add_submatches(line, begin, end);
  take(std::move(line));
  ++matches_;
  told_ = end;
  searched_ = end;
  after_left_ = terms_.after;
  return true;
}

} // namespace coppice::storage
