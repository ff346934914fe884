#include "storage/inspector_walk.hpp"

#include "storage/error.hpp"
#include "storage/printable.hpp"

#include <algorithm>
#include <utility>

namespace coppice::storage::inspection {

namespace {

/// Of a name that is held, beside its characters.
constexpr std::size_t name_bytes = sizeof(name_entry);

} // namespace

std::string lexical_path(std::string_view path) {
  std::vector<std::string_view> kept;
  while (!path.empty()) {
    const auto slash = path.find('/');
    const auto name = path.substr(0, slash);
    path = slash == path.npos ? std::string_view{} : path.substr(slash + 1);
    if (name == ".." && !kept.empty()) {
      kept.pop_back();
    } else if (!name.empty() && name != "." && name != "..") {
      kept.push_back(name);
    }
  }
  std::string out;
  for (auto name : kept) {
    out += out.empty() ? "" : "/";
    out += name;
  }
  return out;
}

struct tree_walk::level {
  std::string prefix; ///< of the paths in it, with a slash at the end
  std::unique_ptr<directory_reader> reader;
  bool is_sorted = false;
  std::vector<name_entry> names; ///< in reverse order, when sorted
  std::size_t held_bytes = 0;
};

tree_walk::tree_walk(file_system& fs, std::string path, file_inode inode)
    : fs_{fs}, first_{walked{std::move(path), inode}} {
  // nop
}

tree_walk::~tree_walk() = default;

result<void> tree_walk::enter(const walked& directory) {
  if (!entered_.insert(directory.inode.number).second) {
    return fail(ec::damaged,
                "file system: directory " + printable(directory.path) + " is in several places");
  }
  auto made = std::make_unique<level>();
  made->prefix = directory.path.empty() ? "" : directory.path + "/";
  auto reader = directory_reader::open(fs_, directory.inode);
  if (!reader) {
    return reader.error();
  }
  made->reader = std::move(*reader);
  made->is_sorted = true;
  for (;;) {
    auto name = made->reader->next();
    if (!name) {
      return name.error();
    }
    if (!*name) {
      break;
    }
    made->held_bytes += name_bytes + (*name)->name.size();
    if (sorted_bytes_ + made->held_bytes > sorted_bytes_max) {
      auto again = directory_reader::open(fs_, directory.inode);
      if (!again) {
        return again.error();
      }
      made->reader = std::move(*again);
      made->is_sorted = false;
      is_sorted_ = false;
      made->names = {};
      made->held_bytes = 0;
      break;
    }
    made->names.push_back(std::move(**name));
  }
  std::sort(made->names.begin(), made->names.end(),
            [](const name_entry& a, const name_entry& b) { return a.name > b.name; });
  sorted_bytes_ += made->held_bytes;
  levels_.push_back(std::move(made));
  return {};
}

/// Of the innermost directory; absent where it has no more.
result<std::optional<name_entry>> tree_walk::next_name() {
  auto& inner = *levels_.back();
  if (!inner.is_sorted) {
    return inner.reader->next();
  }
  std::optional<name_entry> out;
  if (!inner.names.empty()) {
    out = std::move(inner.names.back());
    inner.names.pop_back();
  }
  return out;
}

result<std::optional<walked>> tree_walk::next() {
  if (auto begin = std::exchange(first_, std::nullopt)) {
    if (begin->inode.is_directory()) {
      entering_ = begin;
    }
    return begin;
  }
  if (auto directory = std::exchange(entering_, std::nullopt)) {
    if (auto entered = enter(*directory); !entered) {
      return entered.error();
    }
  }
  while (!levels_.empty()) {
    auto name = next_name();
    if (!name) {
      return name.error();
    }
    if (!*name) {
      sorted_bytes_ -= levels_.back()->held_bytes;
      levels_.pop_back();
      continue;
    }
    auto inode = fs_.inode((*name)->number);
    if (!inode) {
      return inode.error();
    }
    walked out{levels_.back()->prefix + (*name)->name, *inode};
    if (out.path.size() > path_bytes_limit) {
      return fail(ec::damaged,
                  "file system: paths longer than " + std::to_string(path_bytes_limit) + " bytes");
    }
    if (out.inode.is_directory()) {
      entering_ = out;
    }
    return std::optional{std::move(out)};
  }
  return std::optional<walked>{};
}

} // namespace coppice::storage::inspection
