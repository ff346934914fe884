#pragma once

#include "vmm/agent/descriptor.hpp"
#include "vmm/agent/mount_table.hpp"

#include <cstdint>
#include <optional>
#include <set>

#include <sys/types.h>

namespace coppice::agent {

/// The image's disk, from mounting to the proof that it is closed.
///
/// Problem: what ran on the disk was root. It may have mounted, bound, moved and shadowed file
/// systems anywhere, frozen the disk, put swap or loop devices on it. The disk counts as closed
/// only when the kernel lets us open the device exclusively, which it refuses as long as any mount
/// in any namespace, any swap or any other holder has it.
///
/// Every wait is bounded; nothing that cannot be undone hangs the agent, it is reported instead.
/// Owner: the session. No disk is touched before `mount`.
class disk {
public:
  /// Remembers the mounts that are the agent's own: all others are removed by `unmount`.
  /// To be called once, when /proc, /sys and /dev are there.
  result<void> remember_own_mounts();

  /// Puts the agent's own small file system on the device, which has room for it: for a run that
  /// needs no image.
  result<void> make();

  /// Waits for the device, mounts it. One that is held becomes writable instead.
  result<void> mount();

  /// Mounts it read-only: nothing is written to the device, not even that it is mounted.
  result<void> mount_read_only();

  /// In the place of `unmount` after `mount_read_only`: what lies on the disk goes, the disk stays
  /// mounted for the next `mount`.
  result<void> hold();

  /// Makes writes fail with ENOSPC, and df say so, once `bytes` more of the disk are in use. For
  /// honest programs: the host has a limit of its own. After `mount`.
  result<void> limit_growth(std::uint64_t bytes);

  /// Mounts /proc, /sys, /dev and what belongs below them; makes these folders and /tmp where the
  /// image has none. After `mount`.
  result<void> mount_system_folders();

  /// Makes the disk the root of the mount namespace, as far as the kernel is concerned; our own
  /// view stays as it was. Without it the kernel takes whatever runs there for locked in (chroot)
  /// and refuses user namespaces. After `mount_system_folders`, before the first process.
  result<void> become_root();

  /// The mounted root folder; -1 when nothing is mounted.
  int root() const {
    return root_.get();
  }

  /// A frozen file system blocks even killed processes: before they are waited for.
  void thaw();

  /// When no process is left: removes every mount but our own, flushes, proves that the device is
  /// free. Does nothing when no disk was mounted. A failure names what is in the way.
  result<void> unmount();

private:
  result<void> find_device();
  result<void> mount_anew(unsigned long flags);
  void clear_users();
  result<void> unmount_all();
  bool unmount_once(bool may_detach, std::string& in_the_way);
  std::vector<mount_entry> foreign_mounts() const;
  bool is_on_disk(const mount_entry& entry) const;
  void leave_root();
  result<void> flush_device();
  result<void> mount_in_root(const char* type, const char* path, unsigned long flags,
                             const char* data);

  descriptor mountinfo_;
  descriptor swaps_;
  std::set<unsigned> own_mounts_;
  std::optional<dev_t> device_;
  std::optional<unsigned> held_; ///< the disk's mount, among our own as long as it is held
  descriptor root_;
  bool is_root_ = false;
};

} // namespace coppice::agent
