#include "storage/text_diff.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace coppice::storage {

namespace {

constexpr std::size_t context_lines = 3;

using lines = std::vector<std::string_view>;

lines split(std::string_view text) {
  lines out;
  while (!text.empty()) {
    const auto end = text.find('\n');
    out.push_back(text.substr(0, end == text.npos ? end : end + 1));
    text.remove_prefix(out.back().size());
  }
  return out;
}

/// A run of lines that are replaced: [old_begin, old_end) by [new_begin, new_end).
struct edit {
  std::size_t old_begin = 0;
  std::size_t old_end = 0;
  std::size_t new_begin = 0;
  std::size_t new_end = 0;
};

void add_edit(std::vector<edit>& out, std::size_t a, std::size_t b, bool is_removal) {
  // Found from the end to the beginning.
  if (out.empty() || out.back().old_begin != a + (is_removal ? 1 : 0) ||
      out.back().new_begin != b + (is_removal ? 0 : 1)) {
    out.push_back({a + (is_removal ? 1 : 0), a + (is_removal ? 1 : 0), b + (is_removal ? 0 : 1),
                   b + (is_removal ? 0 : 1)});
  }
  out.back().old_begin = a;
  out.back().new_begin = b;
}

/// Myers, "An O(ND) Difference Algorithm and Its Variations" (1986), the greedy one, with the state
/// after each step kept for the way back.
std::vector<edit> find_edits(const lines& a, const lines& b) {
  std::size_t head = 0;
  while (head < a.size() && head < b.size() && a[head] == b[head]) {
    ++head;
  }
  std::size_t tail = 0;
  while (tail < a.size() - head && tail < b.size() - head &&
         a[a.size() - 1 - tail] == b[b.size() - 1 - tail]) {
    ++tail;
  }
  const auto n = static_cast<std::int64_t>(a.size() - head - tail);
  const auto m = static_cast<std::int64_t>(b.size() - head - tail);
  if (n == 0 && m == 0) {
    return {};
  }
  const std::vector<edit> whole{{head, a.size() - tail, head, b.size() - tail}};
  const auto most = std::min<std::int64_t>(n + m, diff_edits_max);
  const auto at = [](std::int64_t step, std::int64_t diagonal) {
    return static_cast<std::size_t>(step + diagonal);
  };
  std::vector<std::vector<std::int32_t>> history; ///< of step d: diagonals -d…d
  const auto same = [&](std::int64_t x, std::int64_t y) {
    return a[head + static_cast<std::size_t>(x)] == b[head + static_cast<std::size_t>(y)];
  };
  const auto come_from_above = [&](std::int64_t d, std::int64_t k) {
    const auto& last = history[static_cast<std::size_t>(d - 1)];
    return k == -d || (k != d && last[at(d - 1, k - 1)] < last[at(d - 1, k + 1)]);
  };
  std::int64_t found = -1;
  for (std::int64_t d = 0; d <= most && found < 0; ++d) {
    std::vector<std::int32_t> reached(static_cast<std::size_t>(2 * d + 1), -1);
    for (auto k = -d; k <= d; k += 2) {
      std::int64_t x = 0;
      if (d > 0) {
        const auto& last = history[static_cast<std::size_t>(d - 1)];
        x = come_from_above(d, k) ? last[at(d - 1, k + 1)] : last[at(d - 1, k - 1)] + 1;
      }
      while (x < n && x - k < m && x - k >= 0 && same(x, x - k)) {
        ++x;
      }
      reached[at(d, k)] = static_cast<std::int32_t>(x);
      if (x >= n && x - k >= m) {
        found = d;
        break;
      }
    }
    history.push_back(std::move(reached));
  }
  if (found < 0) {
    return whole;
  }
  std::vector<edit> out;
  for (auto [d, k] = std::pair{found, n - m}; d > 0; --d) {
    const bool is_insertion = come_from_above(d, k);
    const auto before = is_insertion ? k + 1 : k - 1;
    const std::int64_t x = history[static_cast<std::size_t>(d - 1)][at(d - 1, before)];
    add_edit(out, head + static_cast<std::size_t>(x), head + static_cast<std::size_t>(x - before),
             !is_insertion);
    k = before;
  }
  std::reverse(out.begin(), out.end());
  return out;
}

void add_line(std::string& out, char mark, std::string_view line) {
  out += mark;
  out += line;
  if (!line.ends_with('\n')) {
    out += "\n\\ No newline at end of file\n";
  }
}

std::string range_text(std::size_t begin, std::size_t count) {
  // An empty range is named by the line before it.
  auto out = std::to_string(count == 0 ? begin : begin + 1);
  return count == 1 ? out : out + "," + std::to_string(count);
}

/// Edits [first, last) with the lines around them.
void add_hunk(std::string& out, const lines& a, const lines& b, const edit* first,
              const edit* last) {
  const auto before = std::min(first->old_begin, context_lines);
  const auto after = std::min(a.size() - last[-1].old_end, context_lines);
  const auto old_begin = first->old_begin - before;
  const auto new_begin = first->new_begin - before;
  out += "@@ -" + range_text(old_begin, last[-1].old_end + after - old_begin) + " +" +
         range_text(new_begin, last[-1].new_end + after - new_begin) + " @@\n";
  auto at = old_begin;
  for (const auto* e = first; e != last; ++e) {
    for (; at < e->old_begin; ++at) {
      add_line(out, ' ', a[at]);
    }
    for (; at < e->old_end; ++at) {
      add_line(out, '-', a[at]);
    }
    for (auto added = e->new_begin; added < e->new_end; ++added) {
      add_line(out, '+', b[added]);
    }
  }
  for (auto end = at + after; at < end; ++at) {
    add_line(out, ' ', a[at]);
  }
}

} // namespace

std::string unified_diff(std::string_view older, std::string_view newer, std::string_view name) {
  const auto a = split(older);
  const auto b = split(newer);
  const auto edits = find_edits(a, b);
  if (edits.empty()) {
    return {};
  }
  std::string out = "--- a/";
  out += name;
  out += "\n+++ b/";
  out += name;
  out += '\n';
  for (std::size_t first = 0; first < edits.size();) {
    auto last = first + 1;
    while (last < edits.size() &&
           edits[last].old_begin - edits[last - 1].old_end <= 2 * context_lines) {
      ++last;
    }
    add_hunk(out, a, b, &edits[first], edits.data() + last);
    first = last;
  }
  return out;
}

} // namespace coppice::storage
