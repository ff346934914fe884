#include "storage/inspector_diff.hpp"

#include "storage/disk/extent.hpp"
#include "storage/error.hpp"
#include "storage/inspector_parts.hpp"
#include "storage/inspector_steps.hpp"
#include "storage/inspector_walk.hpp"
#include "storage/printable.hpp"
#include "storage/text_diff.hpp"

#include <algorithm>
#include <cstring>

namespace coppice::storage::inspection {

namespace {

constexpr std::size_t entry_bytes = 96; ///< beside its path

/// Of a file that is compared, at a time.
constexpr std::uint64_t compared_bytes = 1u << 20;
/// Of a file that is looked up, at a time: where each of its blocks has to be asked for, these are
/// many already.
constexpr std::uint64_t looked_up_bytes = 64u << 20;

/// In the order of a walk: what is in a directory comes before what only begins like it.
bool comes_before(const std::string& a, const std::string& b) {
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    const auto rank = [](char c) {
      return c == '/' ? 0 : static_cast<unsigned char>(c);
    };
    return rank(x) < rank(y);
  });
}

struct change {
  std::string path;
  proto::PathChange::Kind kind = proto::PathChange::Kind::CHANGED;
  std::uint64_t old_bytes = 0;
  std::uint64_t new_bytes = 0;
  std::uint32_t old_mode = 0;
  std::uint32_t new_mode = 0;
  bool is_content = false;
  bool is_attributes = false;
};

/// Two files of one size, compared a piece at a time.
struct comparison {
  change found; ///< if they differ
  file_cursor older;
  file_cursor newer;
};

class diff final : public stepped_source {
public:
  diff(file_system& older, file_system& newer, walked old_root, walked new_root,
       disk_changes changed, std::chrono::milliseconds deadline)
      : stepped_source{deadline}, old_fs_{older}, new_fs_{newer}, old_walk_{older,
                                                                            {},
                                                                            old_root.inode},
        new_walk_{newer, {}, new_root.inode}, changed_{std::move(changed)} {}

private:
  result<void> step() override {
    auto found = next_change();
    if (!found) {
      return found.error();
    }
    if (*found) {
      found_bytes_ += entry_bytes + (*found)->path.size();
      found_.push_back(std::move(**found));
    }
    return {};
  }

  std::size_t found_bytes() const override {
    return found_bytes_;
  }

  frame<proto::InspectAnswer> tell() override {
    found_bytes_ = 0;
    return make_frame<proto::InspectAnswer>([&, told = std::exchange(found_, {})](auto root) {
      auto list = root.initChanges(static_cast<unsigned>(told.size()));
      for (unsigned i = 0; i < list.size(); ++i) {
        fill(list[i], told[i]);
      }
      root.setLast(has_ended());
      root.setTruncated(is_truncated());
    });
  }

  /// Some work on the next one: nothing, if it is not known yet.
  result<std::optional<change>> next_change() {
    if (comparison_) {
      return go_on_comparing();
    }
    if (auto read = look_ahead(); !read) {
      return read.error();
    }
    if (!old_ && !new_) {
      end();
      return std::optional<change>{};
    }
    if (!new_ || (old_ && comes_before(old_->path, new_->path))) {
      auto gone = *std::exchange(old_, std::nullopt);
      return std::optional{change{gone.path, proto::PathChange::Kind::REMOVED, size_of(gone), 0,
                                  gone.inode.fields.i_mode, 0, false, false}};
    }
    if (!old_ || comes_before(new_->path, old_->path)) {
      auto added = *std::exchange(new_, std::nullopt);
      return std::optional{change{added.path, proto::PathChange::Kind::ADDED, 0, size_of(added), 0,
                                  added.inode.fields.i_mode, false, false}};
    }
    auto before = *std::exchange(old_, std::nullopt);
    auto after = *std::exchange(new_, std::nullopt);
    return compare(before, after);
  }

  result<void> look_ahead() {
    for (auto [walk, next] : {std::pair{&old_walk_, &old_}, std::pair{&new_walk_, &new_}}) {
      if (*next) {
        continue;
      }
      auto found = walk->next();
      if (!found) {
        return found.error();
      }
      if (!walk->is_sorted()) {
        return fail(ec::too_large, "a directory has too many names to be compared");
      }
      *next = std::move(*found);
    }
    return {};
  }

  /// A directory's own size says nothing.
  static std::uint64_t size_of(const walked& of) {
    return of.inode.is_directory() ? 0 : of.inode.size_bytes();
  }

  result<std::optional<change>> compare(const walked& before, const walked& after) {
    const auto& a = before.inode;
    const auto& b = after.inode;
    change out{before.path,     proto::PathChange::Kind::CHANGED,
               size_of(before), size_of(after),
               a.fields.i_mode, b.fields.i_mode,
               false,           false};
    out.is_attributes =
        a.fields.i_mode != b.fields.i_mode || a.uid() != b.uid() || a.gid() != b.gid();
    const bool is_same_type = (a.fields.i_mode & LINUX_S_IFMT) == (b.fields.i_mode & LINUX_S_IFMT);
    if (!is_same_type) {
      out.is_content = true;
    } else if (a.is_symlink()) {
      auto from = read_symlink(old_fs_, a);
      auto to = from ? read_symlink(new_fs_, b) : from;
      if (!to) {
        return to.error();
      }
      out.is_content = *from != *to;
    } else if (a.is_regular()) {
      if (a.size_bytes() == b.size_bytes()) {
        return begin_comparing(std::move(out), a, b);
      }
      out.is_content = true;
    } else if (!a.is_directory()) {
      out.is_content =
          a.fields.i_block[0] != b.fields.i_block[0] || a.fields.i_block[1] != b.fields.i_block[1];
    }
    return only_if_changed(std::move(out));
  }

  static std::optional<change> only_if_changed(change out) {
    return out.is_content || out.is_attributes ? std::optional{std::move(out)} : std::nullopt;
  }

  result<std::optional<change>> begin_comparing(change found, const file_inode& a,
                                                const file_inode& b) {
    auto older = file_cursor::open(old_fs_, a);
    if (!older) {
      return older.error();
    }
    auto newer = file_cursor::open(new_fs_, b);
    if (!newer) {
      return newer.error();
    }
    comparison_ = comparison{std::move(found), std::move(*older), std::move(*newer)};
    return std::optional<change>{};
  }

  result<std::optional<change>> go_on_comparing() {
    auto& c = *comparison_;
    if (!c.older.has_ended()) {
      auto same = is_next_piece_same(c);
      if (!same) {
        return same.error();
      }
      if (*same) {
        return std::optional<change>{};
      }
      c.found.is_content = true;
    }
    auto out = only_if_changed(std::move(c.found));
    comparison_.reset();
    return out;
  }

  result<bool> is_next_piece_same(comparison& c) {
    const auto offset = c.older.offset_bytes;
    const auto left = std::min(c.older.end_bytes - offset, looked_up_bytes);
    auto a = c.older.content->find(offset, left);
    if (!a) {
      return a.error();
    }
    auto b = c.newer.content->find(offset, left);
    if (!b) {
      return b.error();
    }
    auto bytes = std::min(a->bytes, b->bytes);
    const bool is_in_place =
        a->disk_offset_bytes == b->disk_offset_bytes && is_unchanged(a->disk_offset_bytes, bytes);
    if (!is_in_place) {
      bytes = std::min(bytes, compared_bytes);
      old_bytes_.resize(bytes);
      new_bytes_.resize(bytes);
      if (auto read = c.older.content->read(offset, old_bytes_); !read) {
        return read.error();
      }
      if (auto read = c.newer.content->read(offset, new_bytes_); !read) {
        return read.error();
      }
      if (old_bytes_ != new_bytes_) {
        return false;
      }
    }
    c.older.offset_bytes += bytes;
    return true;
  }

  /// Whether both disks have the same bytes there, in the same file of the store.
  bool is_unchanged(std::uint64_t offset_bytes, std::uint64_t bytes) const {
    if (offset_bytes == 0) {
      return true; // a hole
    }
    if (!changed_) {
      return false;
    }
    const auto first = offset_bytes / cluster_bytes;
    const auto end = (offset_bytes + bytes + cluster_bytes - 1) / cluster_bytes;
    auto run = std::partition_point(changed_->begin(), changed_->end(), [&](const auto& r) {
      return std::uint64_t{r.first} + r.count <= first;
    });
    return run == changed_->end() || run->first >= end;
  }

  static void fill(proto::PathChange::Builder out, const change& from) {
    out.setPath({reinterpret_cast<const kj::byte*>(from.path.data()), from.path.size()});
    out.setKind(from.kind);
    out.setOldSizeBytes(from.old_bytes);
    out.setNewSizeBytes(from.new_bytes);
    out.setOldMode(from.old_mode);
    out.setNewMode(from.new_mode);
    out.setContent(from.is_content);
    out.setAttributes(from.is_attributes);
  }

  file_system& old_fs_;
  file_system& new_fs_;
  tree_walk old_walk_;
  tree_walk new_walk_;
  disk_changes changed_;
  std::optional<walked> old_; ///< the next of each
  std::optional<walked> new_;
  std::optional<comparison> comparison_;
  std::vector<std::byte> old_bytes_;
  std::vector<std::byte> new_bytes_;
  std::vector<change> found_; ///< and not told
  std::size_t found_bytes_ = 0;
};

/// A text that is there already.
class text_answer final : public answer_source {
public:
  explicit text_answer(std::string text) : text_{std::move(text)} {}
  result<frame<proto::InspectAnswer>> next(std::uint64_t) override {
    const auto piece = text_.substr(told_, answer_bytes_max);
    told_ += piece.size();
    return make_frame<proto::InspectAnswer>([&](auto root) {
      root.setData({reinterpret_cast<const kj::byte*>(piece.data()), piece.size()});
      root.setLast(told_ == text_.size());
    });
  }

private:
  std::string text_;
  std::size_t told_ = 0;
};

/// Nothing: there is no such path.
result<std::optional<std::string>> read_text(file_system& fs, const std::string& path) {
  auto inode = resolve(fs, path);
  if (!inode && inode.error().code == ec::not_found) {
    return std::optional<std::string>{};
  }
  if (!inode) {
    return inode.error();
  }
  if (!inode->is_regular()) {
    return fail(ec::wrong_type, printable(path) + " is not a regular file");
  }
  if (inode->size_bytes() > text_bytes_max) {
    return fail(ec::too_large, printable(path) + " is larger than the " +
                                   std::to_string(text_bytes_max) +
                                   " bytes up to which texts are compared");
  }
  auto file = file_cursor::open(fs, *inode);
  if (!file) {
    return file.error();
  }
  std::string out(file->end_bytes, '\0');
  if (auto read = file->content->read(0, std::as_writable_bytes(std::span{out})); !read) {
    return read.error();
  }
  return std::optional{std::move(out)};
}

} // namespace

result<std::unique_ptr<answer_source>> make_diff(file_system& older, file_system& newer,
                                                 disk_changes changed,
                                                 std::chrono::milliseconds deadline) {
  auto old_root = resolve(older, "/");
  if (!old_root) {
    return old_root.error();
  }
  auto new_root = resolve(newer, "/");
  if (!new_root) {
    return new_root.error();
  }
  return std::unique_ptr<answer_source>{std::make_unique<diff>(
      older, newer, walked{{}, *old_root}, walked{{}, *new_root}, std::move(changed), deadline)};
}

result<std::unique_ptr<answer_source>> make_text_diff(file_system& older, file_system& newer,
                                                      const std::string& path) {
  auto before = read_text(older, path);
  if (!before) {
    return before.error();
  }
  auto after = read_text(newer, path);
  if (!after) {
    return after.error();
  }
  if (!*before && !*after) {
    return fail(ec::not_found, printable(path) + ": in neither image");
  }
  const auto from = before->value_or("");
  const auto to = after->value_or("");
  const auto name = lexical_path(path);
  const bool is_binary = from.find('\0') != from.npos || to.find('\0') != to.npos;
  std::string text;
  if (!is_binary) {
    text = unified_diff(from, to, name);
  } else if (from != to) {
    text = "Binary files a/" + name + " and b/" + name + " differ\n";
  }
  return std::unique_ptr<answer_source>{std::make_unique<text_answer>(std::move(text))};
}

} // namespace coppice::storage::inspection
