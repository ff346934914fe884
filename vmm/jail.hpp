#pragma once

#include "protocol/result.hpp"
#include "vmm/error.hpp"
#include "vmm/jail_root.hpp"
#include "vmm/launch_request.hpp"
#include "vmm/unique_fd.hpp"

#include <sys/types.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace coppice::vmm {

/// All that one jailed process is made of, decided by the launcher.
struct jail_plan {
  launch_request request;
  const jail_roots* roots = nullptr;
  std::vector<int> descriptors; ///< as in request.placements, in this process
  uid_t uid = 0;                ///< of this jail alone; its group has the same number
  uid_t owner_uid = 0;          ///< the daemon's, to whom the scratch folder belongs
  gid_t owner_gid = 0;
  int id_map = -1;       ///< user namespace that maps owner to uid; -1: not needed or not possible
  int cgroup_entry = -1; ///< from cgroup_tree::make, or -1
  bool has_user_namespaces = false;
};

/// Flags with which the launcher clones the first process of a jail.
int namespaces_of(child_kind kind);

/// Runs in the first process of new namespaces (pid, mount, ipc, uts and, but for skopeo, net):
/// makes them a jail, gives up all rights, and becomes the guard (vmm/guard.hpp) of the program.
///
/// What the program then has: the root of its kind (vmm/jail_root.hpp) with a /proc of its own pid
/// namespace, the descriptors listed and no other, an environment that is fixed for its kind, a
/// user of its own, no capability (QEMU: one to change its root, in a user namespace of its own,
/// for -chroot), no new privileges, a filter on system calls, resource limits.
[[noreturn]] void enter_jail(jail_plan plan);

/// A user namespace that maps `owner` to `jail`, for an id-mapped mount: what the jail's user makes
/// in the scratch folder belongs to the daemon.
result<unique_fd> make_id_map(uid_t owner_uid, gid_t owner_gid, uid_t jail);

/// Whether processes without rights may make user namespaces here.
bool may_make_user_namespaces(uid_t as_user);

/// What each kind may use at most; `request` may lower or raise what depends on its work.
struct jail_limits {
  std::uint64_t address_space_bytes = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t open_files = 0;
  std::uint64_t processes = 0; ///< threads included
};

jail_limits limits_of(const launch_request& request);

/// The environment of a kind's program.
std::vector<std::string> environment_of(child_kind kind, const jail_roots::kind_root& root);

} // namespace coppice::vmm
