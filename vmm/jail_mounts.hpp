#pragma once

#include "protocol/result.hpp"
#include "vmm/error.hpp"

#include <string>

namespace coppice::vmm {

/// What a jail's root is put together from, in a mount namespace of its own.
struct jail_mounts {
  std::string root;         ///< from jail_roots
  int scratch = -1;         ///< descriptor of the folder at /scratch, or -1
  int layout = -1;          ///< descriptor of the folder at /layout, or -1
  int id_map = -1;          ///< user namespace for these two, or -1
  std::string kvm;          ///< device node to show as /dev/kvm; empty: none
  bool has_network = false; ///< then it gets resolv.conf and hosts as they are now
};

/// To whom the folders' content belongs in the jail.
enum class folder_owner {
  mapped,   ///< to the jail's own user
  unmapped, ///< to whom it belongs outside: this file system cannot map
};

/// Makes `root` the root of this process and takes the host's file systems away. Needs
/// CAP_SYS_ADMIN, a mount namespace without shared mounts and, for /proc, to be the first process
/// of a pid namespace. spawn: with what failed.
result<folder_owner> make_mounts(const jail_mounts& mounts);

} // namespace coppice::vmm
