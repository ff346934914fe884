#pragma once

#include "protocol/result.hpp"
#include "vmm/error.hpp"
#include "vmm/unique_fd.hpp"

#include <string>
#include <utility>
#include <vector>

namespace coppice::vmm {

/// A program to execute with exactly the descriptors listed.
struct spawn_request {
  std::string program; ///< absolute path
  std::vector<std::string> argv;
  std::vector<std::string> environment;
  std::vector<std::pair<int, int>> descriptors; ///< (ours, number there); everything else is closed
  std::string working_dir;
};

struct spawned_process {
  int pid = -1;
  unique_fd pidfd;
  bool leads_namespace = false; ///< first process of a pid namespace: its end ends all in it
};

/// Starts a child of this process, in a session of its own and, where permitted, as the first
/// process of a new pid namespace.
///
/// Problem: the caller has many threads and perhaps much memory, so neither fork (page tables,
/// locks held elsewhere) nor posix_spawn (no namespaces, no pidfd) will do. This is vfork on a
/// stack of its own: the child runs system calls only, and the caller's thread waits until it has
/// executed the program, so that a failure to do so is known here. Signals stay blocked in the
/// child.
result<spawned_process> spawn(const spawn_request& request);

/// Numbers that a listed descriptor may get; QEMU and workers need a dozen.
inline constexpr int descriptor_number_max = 255;

} // namespace coppice::vmm
