#include "vmm/jail_mounts.hpp"

#include "vmm/unique_fd.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstring>
#include <vector>

namespace coppice::vmm {

namespace {

constexpr std::size_t copied_bytes_max = 256u << 10;

failure cannot(const std::string& what) {
  return fail(ec::spawn, what + ": " + std::strerror(errno));
}

/// The folder of a descriptor, as it lies in this mount namespace: a descriptor from another one
/// cannot be mounted. The path is only where to look; that it is the same folder is checked, so
/// that nobody can have another one mounted by exchanging a part of the path.
result<unique_fd> same_folder_here(int given) {
  std::array<char, PATH_MAX> path{};
  const auto link = "/proc/self/fd/" + std::to_string(given);
  if (::readlink(link.c_str(), path.data(), path.size() - 1) <= 0) {
    return cannot("finding a folder");
  }
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  unique_fd here{
      static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, path.data(), &how, sizeof(how)))};
  if (!here) {
    return cannot("opening the folder " + std::string{path.data()});
  }
  struct stat wanted {};
  struct stat found {};
  if (::fstat(given, &wanted) != 0 || ::fstat(here.get(), &found) != 0) {
    return cannot("looking at a folder");
  }
  if (wanted.st_dev != found.st_dev || wanted.st_ino != found.st_ino) {
    return fail(ec::spawn, "the folder " + std::string{path.data()} + " is another one now");
  }
  return here;
}

struct folder_mount {
  int given;
  const char* at;
  bool is_writable;
};

/// A mount that is nowhere yet. Nothing: the file system cannot map users.
result<unique_fd> detached(const folder_mount& folder, int id_map) {
  auto here = same_folder_here(folder.given);
  if (!here) {
    return here.error();
  }
  unique_fd tree{::open_tree(
      here->get(), "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | static_cast<unsigned>(AT_EMPTY_PATH))};
  if (!tree) {
    return cannot(std::string{"mounting "} + folder.at);
  }
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
                        (folder.is_writable ? 0u : MOUNT_ATTR_RDONLY);
  if (id_map >= 0) {
    attributes.attr_set |= MOUNT_ATTR_IDMAP;
    attributes.userns_fd = static_cast<std::uint64_t>(id_map);
  }
  if (::mount_setattr(tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) != 0) {
    return id_map >= 0 ? result<unique_fd>{unique_fd{}}
                       : cannot(std::string{"restricting "} + folder.at);
  }
  return tree;
}

/// All or none of them are mapped: the jail has one user.
result<folder_owner> attach_folders(const std::vector<folder_mount>& folders, int id_map) {
  std::vector<unique_fd> trees;
  for (const auto& folder : folders) {
    auto tree = detached(folder, id_map);
    if (!tree) {
      return tree.error();
    }
    if (!*tree) {
      return attach_folders(folders, -1);
    }
    trees.push_back(std::move(*tree));
  }
  for (std::size_t i = 0; i < folders.size(); ++i) {
    if (::move_mount(trees[i].get(), "", AT_FDCWD, folders[i].at, MOVE_MOUNT_F_EMPTY_PATH) != 0) {
      return cannot(std::string{"mounting "} + folders[i].at);
    }
  }
  return id_map >= 0 || folders.empty() ? folder_owner::mapped : folder_owner::unmapped;
}

/// A file of the host as it is now; what cannot be read is left out.
void copy_file(const char* from, const char* to) {
  const unique_fd in{::open(from, O_RDONLY | O_CLOEXEC)};
  const unique_fd out{::open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444)};
  std::array<char, 4096> piece{};
  std::size_t copied = 0;
  for (ssize_t n = 0; in && out && copied < copied_bytes_max &&
                      (n = ::read(in.get(), piece.data(), piece.size())) > 0;) {
    static_cast<void>(::write(out.get(), piece.data(), static_cast<std::size_t>(n)));
    copied += static_cast<std::size_t>(n);
  }
}

result<void> add_network_files() {
  if (::mount("run", "run", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755,size=1m") != 0) {
    return cannot("mounting /run");
  }
  copy_file("/etc/resolv.conf", "run/resolv.conf");
  copy_file("/etc/hosts", "run/hosts");
  if (::mount(nullptr, "run", nullptr,
              MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) {
    return cannot("making /run read-only");
  }
  return {};
}

} // namespace

result<folder_owner> make_mounts(const jail_mounts& mounts) {
  if (::chdir(mounts.root.c_str()) != 0) {
    return cannot("entering the root");
  }
  std::vector<folder_mount> folders;
  if (mounts.scratch >= 0) {
    folders.push_back({mounts.scratch, "scratch", true});
  }
  if (mounts.layout >= 0) {
    folders.push_back({mounts.layout, "layout", false});
  }
  auto owner = attach_folders(folders, mounts.id_map);
  if (!owner) {
    return owner;
  }
  if (mounts.has_network) {
    if (auto added = add_network_files(); !added) {
      return added.error();
    }
  }
  if (!mounts.kvm.empty() &&
      ::mount(mounts.kvm.c_str(), "dev/kvm", nullptr, MS_BIND, nullptr) != 0) {
    return cannot("mounting /dev/kvm");
  }
  // The old root comes to lie on the new one, and is taken away from there.
  if (::syscall(SYS_pivot_root, ".", ".") != 0) {
    return cannot("changing the root");
  }
  if (::umount2(".", MNT_DETACH) != 0 || ::chdir("/") != 0) {
    return cannot("leaving the host's file systems");
  }
  if (::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "subset=pid") != 0) {
    return cannot("mounting /proc");
  }
  return owner;
}

} // namespace coppice::vmm
