#pragma once

#include "protocol/result.hpp"
#include "vmm/error.hpp"
#include "vmm/unique_fd.hpp"

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace coppice::vmm {

/// A cgroup for each jailed process, below a cgroup v2 folder that was delegated to us (systemd's
/// Delegate=yes, or a container's own).
///
/// The folder's own processes must go to a group of their own first, because one that hands
/// controllers down may hold none. Only a folder that holds nobody but us is taken: to move other
/// people's processes would be theft. Owner: the launcher, one thread.
class cgroup_tree {
public:
  struct limits {
    std::uint64_t memory_bytes = 0; ///< 0: none
    std::uint32_t processes = 0;    ///< threads included; 0: none
  };

  /// Takes over `folder`, whose processes must all be in `ours`. spawn: why it cannot be used; the
  /// text is for the operator.
  static result<cgroup_tree> take(const std::filesystem::path& folder,
                                  const std::vector<pid_t>& ours);

  /// Makes the group `name` and gives the descriptor to which its first process writes "0".
  result<unique_fd> make(const std::string& name, const limits& most) const;

  /// Once all in it are gone. Nothing happens if it is not there.
  void remove(const std::string& name) const;

private:
  explicit cgroup_tree(unique_fd folder) : folder_{std::move(folder)} {}
  unique_fd folder_; ///< a descriptor, since the path may be covered by a mount later
};

/// The cgroup v2 folder of this process: empty if there is no such hierarchy.
std::filesystem::path own_cgroup_folder();

} // namespace coppice::vmm
