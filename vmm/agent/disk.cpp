#include "vmm/agent/disk.hpp"

#include "vmm/agent/in_root.hpp"
#include "vmm/agent/pause.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace coppice::agent {
namespace {

constexpr const char* device_path = "/dev/vda";
/// Our own node of the device: a process may remove or replace what is in /dev, which it shares.
constexpr const char* device_node = "/disk";
constexpr const char* mount_point = "/mnt";
constexpr const char* mount_options = "discard,noinit_itable";
/// In the initramfs (configs/guest/prepare.sh).
constexpr const char* warm_disk = "/warm.ext4";
constexpr const char* reserved_clusters = "/sys/fs/ext4/vda/reserved_clusters";

/// The driver finds the device within tens of milliseconds of its module's start.
constexpr int device_tries = 1000;
/// After the last process is gone the kernel drops its last references in the background.
constexpr int free_tries = 200;
constexpr int stuck_rounds_max = 50;
/// Even a table of a hundred thousand mounts, the kernel's limit, goes away in some rounds.
constexpr int rounds_max = 1000;
constexpr std::size_t table_bytes_max = 4u << 20;
constexpr int loop_devices_max = 256;

descriptor open_kernel_file(const char* path) {
  return descriptor{::open(path, O_RDONLY | O_CLOEXEC)};
}

void detach_loop_devices() {
  for (int i = 0; i < loop_devices_max; ++i) {
    auto name = "/sys/block/loop" + std::to_string(i);
    if (::access(name.c_str(), F_OK) < 0) {
      return;
    }
    auto path = "/dev/loop" + std::to_string(i);
    descriptor loop{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (loop) {
      static_cast<void>(::ioctl(loop.get(), LOOP_CLR_FD, 0));
    }
  }
}

} // namespace

result<void> disk::remember_own_mounts() {
  // Held open: later reads work whatever happens to our /proc.
  mountinfo_ = open_kernel_file("/proc/self/mountinfo");
  swaps_ = open_kernel_file("/proc/swaps");
  if (!mountinfo_) {
    return last_error("/proc/self/mountinfo");
  }
  for (auto& entry : parse_mountinfo(read_start_of(mountinfo_.get(), table_bytes_max))) {
    own_mounts_.insert(entry.id);
  }
  return {};
}

result<void> disk::find_device() {
  if (device_) {
    return {};
  }
  struct stat st {};
  for (int i = 0; ::stat(device_path, &st) < 0 || !S_ISBLK(st.st_mode); ++i) {
    if (i == device_tries) {
      return errno_failure(ENODEV, device_path);
    }
    pause_ms(5);
  }
  ::unlink(device_node);
  if (::mknod(device_node, S_IFBLK | 0600, st.st_rdev) < 0) {
    return last_error("making the disk's node");
  }
  device_ = st.st_rdev;
  return {};
}

result<void> disk::make() {
  if (auto found = find_device(); !found) {
    return found;
  }
  descriptor from{::open(warm_disk, O_RDONLY | O_CLOEXEC)};
  descriptor to{::open(device_node, O_WRONLY | O_CLOEXEC)};
  if (!from || !to) {
    return last_error(from ? device_node : warm_disk);
  }
  // An empty disk is zeros already, and what is not written takes no memory.
  std::array<char, 4096> block;
  for (off_t at = 0;; at += static_cast<off_t>(block.size())) {
    auto got = ::read(from.get(), block.data(), block.size());
    if (got < 0) {
      return last_error(warm_disk);
    }
    if (got == 0) {
      break;
    }
    const auto bytes = static_cast<std::size_t>(got);
    const bool is_zero =
        std::all_of(block.begin(), block.begin() + got, [](char c) { return c == 0; });
    if (!is_zero && ::pwrite(to.get(), block.data(), bytes, at) != got) {
      return last_error("writing the disk");
    }
  }
  return ::fsync(to.get()) < 0 ? last_error("writing the disk") : result<void>{};
}

result<void> disk::mount() {
  if (!held_) {
    return mount_anew(MS_NOATIME);
  }
  own_mounts_.erase(*held_);
  held_.reset();
  if (::mount(nullptr, mount_point, nullptr, MS_REMOUNT | MS_NOATIME, mount_options) < 0) {
    return last_error("making the disk writable");
  }
  return {};
}

result<void> disk::mount_read_only() {
  if (held_) {
    return errno_failure(EBUSY, "the disk is held already");
  }
  return mount_anew(MS_NOATIME | MS_RDONLY);
}

result<void> disk::mount_anew(unsigned long flags) {
  if (auto found = find_device(); !found) {
    return found;
  }
  {
    // The host may have put another disk behind the device since the kernel last read it.
    descriptor fd{::open(device_node, O_RDONLY | O_CLOEXEC)};
    if (!fd || ::ioctl(fd.get(), BLKFLSBUF, 0) < 0) {
      return last_error("opening the disk");
    }
  }
  // The name is what df and the like show inside; ours is only the way in when that one is gone.
  struct stat st {};
  bool is_named = ::stat(device_path, &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == *device_;
  if (::mount(is_named ? device_path : device_node, mount_point, "ext4", flags, mount_options) <
      0) {
    return last_error("mounting the disk");
  }
  root_ = descriptor{::open(mount_point, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!root_) {
    return last_error("opening the disk's root folder");
  }
  return {};
}

result<void> disk::limit_growth(std::uint64_t bytes) {
  struct statvfs now {};
  if (::fstatvfs(root_.get(), &now) < 0 || now.f_frsize == 0) {
    return last_error("looking at the free space of the disk");
  }
  auto allowed = bytes / now.f_frsize;
  auto reserved = now.f_bfree > allowed ? now.f_bfree - allowed : 0;
  // The kernel keeps so many clusters for itself, whoever asks; a cluster is a block here.
  descriptor fd{::open(reserved_clusters, O_WRONLY | O_CLOEXEC)};
  auto text = std::to_string(reserved);
  if (!fd || ::write(fd.get(), text.data(), text.size()) < 0) {
    return last_error(reserved_clusters);
  }
  return {};
}

result<void> disk::mount_in_root(const char* type, const char* path, unsigned long flags,
                                 const char* data) {
  if (auto made = make_folders_in_root(root_.get(), path, 0755); !made) {
    return made;
  }
  auto at = open_in_root(root_.get(), path, O_PATH | O_DIRECTORY);
  if (!at) {
    return at.error();
  }
  if (::mount(type, descriptor_path(at->get()).c_str(), type, flags, data) < 0) {
    return last_error(std::string{"mounting "} + path);
  }
  return {};
}

result<void> disk::mount_system_folders() {
  constexpr unsigned long safe = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  struct {
    const char* type;
    const char* path;
    unsigned long flags;
    const char* data;
  } const folders[] = {
      {"proc", "/proc", safe, ""},
      {"sysfs", "/sys", safe, ""},
      {"devtmpfs", "/dev", MS_NOSUID, "mode=755"},
      {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
      {"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"},
  };
  for (auto& folder : folders) {
    if (auto done = mount_in_root(folder.type, folder.path, folder.flags, folder.data); !done) {
      return done;
    }
  }
  auto dev = open_in_root(root_.get(), "/dev", O_PATH | O_DIRECTORY);
  if (!dev) {
    return dev.error();
  }
  // They may be there from an earlier run: devtmpfs is one for the whole machine.
  constexpr std::pair<const char*, const char*> links[] = {
      {"/proc/self/fd", "fd"},
      {"/proc/self/fd/0", "stdin"},
      {"/proc/self/fd/1", "stdout"},
      {"/proc/self/fd/2", "stderr"},
  };
  for (auto [target, name] : links) {
    if (::symlinkat(target, dev->get(), name) < 0 && errno != EEXIST) {
      return last_error(std::string{"/dev/"} + name);
    }
  }
  // What is written to /tmp is part of the image, so it is the image's own folder.
  if (!is_folder_in_root(root_.get(), "/tmp")) {
    return make_folders_in_root(root_.get(), "/tmp", 01777);
  }
  return {};
}

result<void> disk::become_root() {
  if (::mount(mount_point, "/", nullptr, MS_MOVE, nullptr) < 0) {
    return last_error("making the disk the root");
  }
  is_root_ = true;
  return {};
}

/// Back to where the names of all mounts are our own again. What ran may have made our mounts
/// shared, from which nothing can be moved, or have unmounted the disk.
void disk::leave_root() {
  if (std::exchange(is_root_, false)) {
    static_cast<void>(::mount(nullptr, "/", nullptr, MS_PRIVATE | MS_REC, nullptr));
    static_cast<void>(
        ::mount(descriptor_path(root_.get()).c_str(), mount_point, nullptr, MS_MOVE, nullptr));
  }
}

void disk::thaw() {
  if (root_) {
    static_cast<void>(::ioctl(root_.get(), FITHAW, 0));
  }
}

std::vector<mount_entry> disk::foreign_mounts() const {
  auto all = parse_mountinfo(read_start_of(mountinfo_.get(), table_bytes_max));
  std::erase_if(all, [&](const mount_entry& e) { return own_mounts_.contains(e.id); });
  return all;
}

bool disk::is_on_disk(const mount_entry& entry) const {
  return device_ && makedev(entry.device_major, entry.device_minor) == *device_;
}

/// True when at least one mount went away.
bool disk::unmount_once(bool may_detach, std::string& in_the_way) {
  auto mounts = foreign_mounts();
  bool is_progress = false;
  // Later mounts lie on earlier ones.
  for (auto at = mounts.rbegin(); at != mounts.rend(); ++at) {
    int flags = UMOUNT_NOFOLLOW | (may_detach && !is_on_disk(*at) ? MNT_DETACH : 0);
    if (::umount2(at->target.c_str(), flags) == 0) {
      is_progress = true;
    } else {
      in_the_way = at->target + ": " + std::strerror(errno);
    }
  }
  return is_progress;
}

result<void> disk::unmount_all() {
  std::string in_the_way = "too many mounts";
  int stuck_rounds = 0;
  for (int round = 0; round < rounds_max && stuck_rounds < stuck_rounds_max; ++round) {
    if (foreign_mounts().empty()) {
      return {};
    }
    // What is not the disk may be detached instead: it cannot change the image any more.
    if (unmount_once(stuck_rounds > stuck_rounds_max / 2, in_the_way)) {
      stuck_rounds = 0;
    } else {
      ++stuck_rounds;
      detach_loop_devices();
      pause_ms(10);
    }
  }
  return errno_failure(EBUSY, "unmounting " + in_the_way);
}

result<void> disk::flush_device() {
  descriptor fd;
  for (int i = 0; !fd; ++i) {
    fd = descriptor{::open(device_node, O_RDWR | O_EXCL | O_CLOEXEC)};
    if (!fd && (errno != EBUSY || i == free_tries)) {
      return last_error("the disk is still in use");
    }
    if (!fd) {
      pause_ms(10);
    }
  }
  if (::fsync(fd.get()) < 0 || ::ioctl(fd.get(), BLKFLSBUF, 0) < 0) {
    return last_error("flushing the disk");
  }
  return {};
}

void disk::clear_users() {
  thaw();
  leave_root();
  for (auto& swap : parse_swaps(read_start_of(swaps_.get(), table_bytes_max))) {
    static_cast<void>(::swapoff(swap.c_str()));
  }
  detach_loop_devices();
}

result<void> disk::hold() {
  clear_users();
  auto mounts = foreign_mounts();
  auto ours = std::find_if(mounts.begin(), mounts.end(), [this](const mount_entry& e) {
    return e.target == mount_point && is_on_disk(e);
  });
  if (ours == mounts.end()) {
    return errno_failure(ENOENT, "the disk is not mounted any more");
  }
  held_ = ours->id;
  own_mounts_.insert(*held_);
  return unmount_all();
}

result<void> disk::unmount() {
  if (held_) {
    own_mounts_.erase(*held_);
    held_.reset();
  }
  clear_users();
  root_.reset();
  auto unmounted = unmount_all();
  if (!device_) {
    return unmounted;
  }
  ::sync();
  return unmounted ? flush_device() : unmounted;
}

} // namespace coppice::agent
