#include "tests/guest/feature.hpp"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>

namespace features {
namespace {

std::string new_folder(const std::string& name) {
  std::string path = "/tmp/" + name;
  ::mkdir(path.c_str(), 0755);
  return path;
}

/// A kernel that knows the type complains about something else than the type.
std::string knows_type(const std::string& type) {
  const auto folder = new_folder("nothing");
  errno = 0;
  if (::mount("/dev/null", folder.c_str(), type.c_str(), 0, nullptr) == 0) {
    ::umount(folder.c_str());
    return {};
  }
  return need(errno != ENODEV, "mount");
}

std::string mounts(const std::string& type) {
  const auto folder = new_folder(type);
  if (::mount(type.c_str(), folder.c_str(), type.c_str(), 0, nullptr) < 0) {
    return failed("mount");
  }
  return need(::umount(folder.c_str()) == 0, "umount");
}

std::string memory_file_system(const std::string&) {
  const auto folder = new_folder("tmpfs");
  if (::mount("tmpfs", folder.c_str(), "tmpfs", 0, nullptr) < 0) {
    return failed("mount");
  }
  const auto file = folder + "/file";
  ::close(::open(file.c_str(), O_RDWR | O_CREAT, 0644));
  // Version 2; owner rw, group r, others r.
  const unsigned char list[] = {2,    0,    0, 0, 1,    0,    6,    0,    0xff, 0xff,
                                0xff, 0xff, 4, 0, 4,    0,    0xff, 0xff, 0xff, 0xff,
                                0x20, 0,    4, 0, 0xff, 0xff, 0xff, 0xff};
  auto why = need(::setxattr(file.c_str(), "trusted.x", "1", 1, 0) == 0, "setxattr");
  if (why.empty()) {
    why = need(::setxattr(file.c_str(), "system.posix_acl_access", list, sizeof(list), 0) == 0,
               "an access list");
  }
  ::umount(folder.c_str());
  return why;
}

std::string on_the_image(const std::string& attribute) {
  const char* file = "/tmp/attributes";
  ::close(::open(file, O_RDWR | O_CREAT, 0644));
  return need(::setxattr(file, attribute.c_str(), "1", 1, 0) == 0, "setxattr");
}

std::string overlay(const std::string&) {
  const auto folder = new_folder("layers");
  if (::mount("tmpfs", folder.c_str(), "tmpfs", 0, nullptr) < 0) {
    return failed("mounting a tmpfs");
  }
  for (const char* name : {"/lower", "/upper", "/work", "/merged"}) {
    ::mkdir((folder + name).c_str(), 0755);
  }
  const auto layers =
      "lowerdir=" + folder + "/lower,upperdir=" + folder + "/upper,workdir=" + folder + "/work";
  const auto why =
      need(::mount("overlay", (folder + "/merged").c_str(), "overlay", 0, layers.c_str()) == 0,
           "mounting an overlay");
  ::umount((folder + "/merged").c_str());
  ::umount(folder.c_str());
  return why;
}

std::string user_space_file_systems(const std::string&) {
  const int device = ::open("/dev/fuse", O_RDWR);
  if (device < 0) {
    return failed("/dev/fuse");
  }
  const auto folder = new_folder("fuse");
  const auto how =
      "fd=" + std::to_string(device) + ",rootmode=40000,user_id=0,group_id=0,allow_other";
  const auto why =
      need(::mount("fuse", folder.c_str(), "fuse", 0, how.c_str()) == 0, "mounting fuse");
  ::umount2(folder.c_str(), MNT_DETACH);
  return why;
}

std::string loop_devices(const std::string&) {
  const int control = ::open("/dev/loop-control", O_RDWR);
  if (control < 0) {
    return failed("/dev/loop-control");
  }
  const int number = ::ioctl(control, LOOP_CTL_GET_FREE);
  const int file = ::open("/tmp/disk", O_RDWR | O_CREAT, 0600);
  const int loop = ::open(("/dev/loop" + std::to_string(number)).c_str(), O_RDWR);
  if (number < 0 || file < 0 || loop < 0 || ::ftruncate(file, 1 << 20) < 0) {
    return failed("a free loop device");
  }
  const auto why = need(::ioctl(loop, LOOP_SET_FD, file) == 0, "LOOP_SET_FD");
  ::ioctl(loop, LOOP_CLR_FD, 0);
  return why;
}

std::string locks(const std::string&) {
  const int file = ::open("/tmp/lock", O_RDWR | O_CREAT, 0600);
  struct flock first {};
  first.l_type = F_WRLCK;
  first.l_len = 1;
  auto second = first;
  second.l_start = 1;
  return need(::flock(file, LOCK_EX) == 0 && ::fcntl(file, F_SETLK, &first) == 0 &&
                  ::fcntl(file, F_OFD_SETLK, &second) == 0,
              "file locks");
}

std::string pseudo_terminals(const std::string&) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
  return need(master >= 0 && ::grantpt(master) == 0 && ::unlockpt(master) == 0 &&
                  ::open(::ptsname(master), O_RDWR | O_NOCTTY) >= 0,
              "a pseudo terminal");
}

std::string device_node(const std::string& path) {
  struct stat st {};
  return need(::stat(path.c_str(), &st) == 0 && (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)), path);
}

std::string opens(const std::string& path) {
  return need(::open(path.c_str(), O_RDWR | O_CLOEXEC) >= 0, path);
}

} // namespace

void add_files(std::vector<feature>& to) {
  for (const char* type :
       {"ext4", "ext3", "ext2", "xfs", "vfat", "msdos", "iso9660", "squashfs", "autofs"}) {
    to.push_back({std::string{"fs_"} + type, knows_type, type});
  }
  for (const char* type : {"proc", "sysfs", "devtmpfs", "devpts", "mqueue", "hugetlbfs", "ramfs",
                           "bpf", "configfs", "securityfs"}) {
    to.push_back({std::string{"fs_"} + type, mounts, type});
  }
  to.push_back({"tmpfs_xattr_acl", memory_file_system, ""});
  for (const char* name : {"user.x", "trusted.x", "security.x"}) {
    to.push_back({std::string{"image_xattr_"} + name, on_the_image, name});
  }
  to.push_back({"overlay", overlay, ""});
  to.push_back({"fuse", user_space_file_systems, ""});
  to.push_back({"loop", loop_devices, ""});
  to.push_back({"locks", locks, ""});
  to.push_back({"pty", pseudo_terminals, ""});
  for (const char* path : {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom",
                           "/dev/tty", "/dev/ptmx", "/dev/kmsg", "/dev/vda"}) {
    to.push_back({path, device_node, path});
  }
  to.push_back({"device_mapper", opens, "/dev/mapper/control"});
}

} // namespace features
