#pragma once

#include "vmm/agent/descriptor.hpp"

#include <string>
#include <string_view>

#include <sys/types.h>

/// Paths inside an image, as a process that is chrooted there would see them.
///
/// Problem: the agent handles the image's files from outside the chroot, and any symbolic link in
/// it may point anywhere. Every path is therefore resolved by the kernel with the image's folder
/// as the root (openat2, RESOLVE_IN_ROOT): absolute links and ".." stay inside.
namespace coppice::agent {

/// Opens `path` below `root`; `flags` and `mode` as in open(2). Always close-on-exec, never a
/// controlling terminal. The errno value on failure.
result<descriptor> open_in_root(int root, const std::string& path, int flags, mode_t mode = 0);

/// Makes the folders of `path` that are missing, the last with `mode`, those above with 0755.
result<void> make_folders_in_root(int root, std::string_view path, mode_t mode);

/// The first `bytes_max` bytes of a regular file; empty if there is none.
std::string read_in_root(int root, const std::string& path, std::size_t bytes_max);

bool is_folder_in_root(int root, const std::string& path);

/// Name under which mount(2) reaches an open descriptor, wherever its path leads.
std::string descriptor_path(int fd);

} // namespace coppice::agent
