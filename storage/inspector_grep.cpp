#include "storage/inspector_grep.hpp"

#include "storage/error.hpp"
#include "storage/grep_scan.hpp"
#include "storage/inspector_parts.hpp"
#include "storage/inspector_steps.hpp"
#include "storage/inspector_walk.hpp"

#include <deque>
#include <optional>
#include <utility>

namespace coppice::storage::inspection {

namespace {

/// Of an entry of an answer and of a submatch, generously.
constexpr std::size_t entry_bytes = 160;
constexpr std::size_t span_bytes = 16;

struct found_line {
  std::shared_ptr<const std::string> path;
  grep_line line;

  std::size_t bytes() const {
    return entry_bytes + path->size() + line.text.size() + line.submatches.size() * span_bytes;
  }
};

class grep final : public stepped_source {
public:
  grep(file_system& fs, grep_query query, line_matcher lines, glob_set globs,
       std::vector<walked> starts)
      : stepped_source{query.deadline}, fs_{fs}, query_{std::move(query)}, lines_{std::move(lines)},
        globs_{std::move(globs)}, starts_{std::make_move_iterator(starts.begin()),
                                          std::make_move_iterator(starts.end())} {}

private:
  /// Some lines of the file under way, or the next file.
  result<void> step() override {
    if (file_) {
      auto window = file_->next_lines([this](grep_line line) {
        if (!line.is_context) {
          ++total_;
        }
        queue_.push_back({path_, std::move(line)});
        queued_bytes_ += queue_.back().bytes();
      });
      if (!window) {
        return window.error();
      }
      if (!*window) {
        file_.reset();
        // Only now: the lines behind its last match belong to it.
        if (query_.max_total != 0 && total_ >= query_.max_total) {
          end_at_limit();
        }
      }
      return {};
    }
    return next_file();
  }

  result<void> next_file() {
    if (!walk_) {
      if (starts_.empty()) {
        end();
        return {};
      }
      auto start = std::move(starts_.front());
      starts_.pop_front();
      root_bytes_ = start.path.empty() ? 0 : start.path.size() + 1;
      is_start_ = true;
      walk_ = std::make_unique<tree_walk>(fs_, start.path, start.inode);
    }
    auto found = walk_->next();
    if (!found) {
      return found.error();
    }
    if (!*found) {
      walk_.reset();
      return {};
    }
    const bool is_start = std::exchange(is_start_, false); // whatever the globs say
    auto& [path, inode] = **found;
    if (inode.is_directory()) {
      if (!is_start && !globs_.enters(path, root_bytes_)) {
        walk_->skip();
      }
      return {};
    }
    if (!inode.is_regular() || (!is_start && !globs_.wants_file(path, root_bytes_))) {
      return {};
    }
    auto file = file_cursor::open(fs_, inode);
    if (!file) {
      return file.error();
    }
    path_ = std::make_shared<const std::string>("/" + path);
    file_ = std::make_unique<grep_scan>(
        lines_, scan_terms(),
        [content = std::shared_ptr<content_reader>{std::move(file->content)}](
            std::uint64_t offset, std::span<std::byte> out) { return content->read(offset, out); },
        file->end_bytes);
    return {};
  }

  grep_terms scan_terms() const {
    auto matches_max = query_.max_count == 0 ? UINT64_MAX : query_.max_count;
    if (query_.max_total != 0) {
      matches_max = std::min(matches_max, query_.max_total - total_);
    }
    return {matches_max, query_.before, query_.after};
  }

  std::size_t found_bytes() const override {
    return queued_bytes_;
  }

  frame<proto::InspectAnswer> tell() override {
    std::size_t count = 0;
    std::size_t bytes = 0;
    while (count < queue_.size() && bytes < answer_bytes_max) {
      bytes += queue_[count++].bytes();
    }
    auto out = make_frame<proto::InspectAnswer>([&](auto root) {
      auto list = root.initMatches(static_cast<unsigned>(count));
      for (unsigned i = 0; i < list.size(); ++i) {
        fill(list[i], queue_[i]);
      }
      const bool is_last = has_ended() && count == queue_.size();
      root.setLast(is_last);
      root.setTruncated(is_last && is_truncated());
    });
    queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(count));
    queued_bytes_ -= bytes;
    return out;
  }

  static void fill(proto::GrepMatch::Builder out, const found_line& from) {
    auto data = [](const std::string& text) {
      return capnp::Data::Reader{reinterpret_cast<const kj::byte*>(text.data()), text.size()};
    };
    out.setPath(data(*from.path));
    out.setLineNumber(from.line.number);
    out.setAbsoluteOffset(from.line.offset_bytes);
    out.setLine(data(from.line.text));
    out.setIsContext(from.line.is_context);
    auto spans = out.initSubmatches(static_cast<unsigned>(from.line.submatches.size()));
    for (unsigned i = 0; i < spans.size(); ++i) {
      spans[i].setStart(static_cast<std::uint32_t>(from.line.submatches[i].begin));
      spans[i].setEnd(static_cast<std::uint32_t>(from.line.submatches[i].end));
    }
  }

  file_system& fs_;
  grep_query query_;
  line_matcher lines_;
  glob_set globs_;
  std::deque<walked> starts_; ///< still to be walked
  std::unique_ptr<tree_walk> walk_;
  std::size_t root_bytes_ = 0;
  bool is_start_ = false;
  std::unique_ptr<grep_scan> file_;
  std::shared_ptr<const std::string> path_; ///< of it
  std::deque<found_line> queue_;
  std::size_t queued_bytes_ = 0;
  std::uint64_t total_ = 0;
};

} // namespace

result<std::unique_ptr<answer_source>> make_grep(file_system& fs, const grep_query& query) {
  auto lines = line_matcher::compile(query.patterns, query.how);
  if (!lines) {
    return lines.error();
  }
  auto globs = glob_set::compile(query.globs);
  if (!globs) {
    return globs.error();
  }
  std::vector<walked> starts;
  for (const auto& path : query.paths) {
    auto inode = resolve(fs, path);
    if (!inode) {
      return inode.error();
    }
    starts.push_back({lexical_path(path), *inode});
  }
  return std::unique_ptr<answer_source>{
      std::make_unique<grep>(fs, query, std::move(*lines), std::move(*globs), std::move(starts))};
}

} // namespace coppice::storage::inspection
