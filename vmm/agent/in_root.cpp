#include "vmm/agent/in_root.hpp"

#include "vmm/agent/mount_table.hpp"

#include <algorithm>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

namespace coppice::agent {
namespace {

/// A race with a rename makes the kernel give up with EAGAIN; nobody but us renames here, yet a
/// retry costs nothing.
constexpr int resolve_tries = 16;

} // namespace

result<descriptor> open_in_root(int root, const std::string& path, int flags, mode_t mode) {
  open_how how{};
  how.flags = static_cast<unsigned>(flags | O_CLOEXEC | ((flags & O_PATH) ? 0 : O_NOCTTY));
  how.mode = mode;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  long fd = -1;
  for (int i = 0; i < resolve_tries; ++i) {
    fd = ::syscall(SYS_openat2, root, path.c_str(), &how, sizeof(how));
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) {
      break;
    }
  }
  if (fd < 0) {
    return last_error(path);
  }
  return descriptor{static_cast<int>(fd)};
}

result<void> make_folders_in_root(int root, std::string_view path, mode_t mode) {
  std::string done = "/";
  auto parent = open_in_root(root, done, O_PATH | O_DIRECTORY);
  if (!parent) {
    return parent.error();
  }
  while (!path.empty()) {
    auto begin = std::min(path.find_first_not_of('/'), path.size());
    path.remove_prefix(begin);
    auto end = std::min(path.find('/'), path.size());
    std::string name{path.substr(0, end)};
    path.remove_prefix(end);
    if (name.empty()) {
      break;
    }
    bool is_last = path.find_first_not_of('/') == path.npos;
    auto below = done + name;
    auto next = open_in_root(root, below, O_PATH | O_DIRECTORY);
    if (!next && next.error().code.value() == ENOENT) {
      if (::mkdirat(parent->get(), name.c_str(), is_last ? mode : 0755) < 0 && errno != EEXIST) {
        return last_error("making the folder " + below);
      }
      next = open_in_root(root, below, O_PATH | O_DIRECTORY);
    }
    if (!next) {
      return next.error();
    }
    *parent = std::move(*next);
    done = below + "/";
  }
  return {};
}

std::string read_in_root(int root, const std::string& path, std::size_t bytes_max) {
  auto fd = open_in_root(root, path, O_RDONLY | O_NONBLOCK);
  struct stat st {};
  if (!fd || ::fstat(fd->get(), &st) < 0 || !S_ISREG(st.st_mode)) {
    return {};
  }
  return read_start_of(fd->get(), bytes_max);
}

bool is_folder_in_root(int root, const std::string& path) {
  return open_in_root(root, path, O_PATH | O_DIRECTORY).has_value();
}

std::string descriptor_path(int fd) {
  return "/proc/self/fd/" + std::to_string(fd);
}

} // namespace coppice::agent
