#include "storage/inspector_ext4.hpp"

#include "storage/error.hpp"
#include "storage/printable.hpp"

#include <algorithm>
#include <cstring>

namespace coppice::storage::inspection {

namespace {

failure missing(std::string_view path, const char* why) {
  return fail(ec::not_found, printable(path) + ": " + why);
}

/// Puts the components of a path before those that wait, which are in reverse order.
void push_components(std::string_view path, std::vector<std::string>& waiting) {
  while (!path.empty()) {
    const auto slash = path.rfind('/');
    const auto name = path.substr(slash == path.npos ? 0 : slash + 1);
    path = slash == path.npos ? std::string_view{} : path.substr(0, slash);
    if (!name.empty() && name != ".") {
      waiting.emplace_back(name);
    }
  }
}

/// The inode number of a name in a directory; absent where there is none.
result<std::optional<std::uint32_t>> look_up(file_system& fs, const file_inode& directory,
                                             const std::string& name, std::uint64_t& blocks_left) {
  auto names = directory_reader::open(fs, directory);
  if (!names) {
    return names.error();
  }
  for (;;) {
    auto entry = (*names)->next();
    if (!entry) {
      return entry.error();
    }
    if ((*names)->blocks_read() > blocks_left) {
      return fail(ec::damaged, "file system: directories too large to look anything up");
    }
    if (!*entry || (*entry)->name == name) {
      blocks_left -= (*names)->blocks_read();
      return *entry ? std::optional{(*entry)->number} : std::nullopt;
    }
  }
}

} // namespace

result<std::string> read_symlink(file_system& fs, const file_inode& inode) {
  const auto size = inode.size_bytes();
  if (size == 0 || size > fs.block_bytes()) {
    return fail(ec::damaged, "file system: symbolic link of " + std::to_string(size) + " bytes");
  }
  std::string out(static_cast<std::size_t>(size), '\0');
  auto fields = inode.fields;
  if (ext2fs_is_fast_symlink(reinterpret_cast<ext2_inode*>(&fields)) != 0) {
    out.resize(std::min(out.size(), sizeof fields.i_block));
    std::memcpy(out.data(), fields.i_block, out.size());
  } else {
    auto content = content_reader::open(fs, inode);
    if (!content) {
      return content.error();
    }
    if (auto read = (*content)->read(0, std::as_writable_bytes(std::span{out})); !read) {
      return read.error();
    }
  }
  if (out.find('\0') != out.npos) {
    return fail(ec::damaged, "file system: symbolic link with a zero byte");
  }
  return out;
}

result<file_inode> resolve(file_system& fs, std::string_view path) {
  if (path.size() > path_bytes_max || path.find('\0') != path.npos) {
    return missing(path, "not a path");
  }
  std::vector<std::string> waiting;
  push_components(path, waiting);
  std::vector<std::uint32_t> trail{EXT2_ROOT_INO};
  auto current = fs.inode(EXT2_ROOT_INO);
  std::uint64_t blocks_left = lookup_blocks_max;
  int hops = 0;
  while (current && !waiting.empty()) {
    const auto name = std::move(waiting.back());
    waiting.pop_back();
    if (!current->is_directory()) {
      return missing(path, "leads through something that is not a directory");
    }
    if (name == "..") {
      if (trail.size() > 1) {
        trail.pop_back();
        current = fs.inode(trail.back());
      }
      continue;
    }
    auto number = look_up(fs, *current, name, blocks_left);
    if (!number) {
      return number.error();
    }
    if (!*number) {
      return missing(path, "no such file or directory");
    }
    auto child = fs.inode(**number);
    if (!child) {
      return child;
    }
    if (!child->is_symlink()) {
      trail.push_back(**number);
      current = std::move(child);
      continue;
    }
    if (++hops > symlink_hops_max) {
      return missing(path, "too many symbolic links");
    }
    auto target = read_symlink(fs, *child);
    if (!target) {
      return target.error();
    }
    if (target->front() == '/') {
      trail.assign(1, EXT2_ROOT_INO);
      current = fs.inode(EXT2_ROOT_INO);
    }
    push_components(*target, waiting);
  }
  return current;
}

} // namespace coppice::storage::inspection
