#include "gateway/cli/privileges.hpp"

#include "gateway/cli/units.hpp"
#include "storage/error.hpp"
#include "storage/file.hpp"
#include "vmm/find_program.hpp"
#include "vmm/unique_fd.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>

namespace coppice::cli {
namespace {

using storage::io_failure;
using vmm::unique_fd;

constexpr const char* default_user = "coppice";

std::string found_program(const std::string& name) {
  auto path = vmm::find_program(name);
  return path ? *path : std::string{};
}

bool is_in_use(const std::filesystem::path& state_dir) {
  const unique_fd lock{::open((state_dir / "lock").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
  return lock && ::flock(lock.get(), LOCK_SH | LOCK_NB) != 0;
}

result<void> take_over(int parent, const char* name, const std::string& path,
                       const daemon_user& user);

/// All entries of a folder, then the folder. Closes `folder`.
result<void> take_over_entries(unique_fd folder, const std::string& path, const daemon_user& user) {
  DIR* entries = ::fdopendir(folder.get());
  if (entries == nullptr) {
    return io_failure(errno, "cannot list " + path);
  }
  const int fd = folder.release(); // closed with the listing
  result<void> done;
  while (done) {
    const dirent* entry = ::readdir(entries);
    if (entry == nullptr) {
      break;
    }
    const std::string name = entry->d_name;
    if (name != "." && name != "..") {
      done = take_over(fd, entry->d_name, path + "/" + name, user);
    }
  }
  ::closedir(entries);
  return done;
}

result<void> take_over(int parent, const char* name, const std::string& path,
                       const daemon_user& user) {
  struct stat info {};
  if (::fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
    return errno == ENOENT ? result<void>{} : io_failure(errno, "cannot look at " + path);
  }
  const bool is_folder = S_ISDIR(info.st_mode);
  if (!is_folder && (info.st_uid == user.uid || !S_ISREG(info.st_mode))) {
    return {};
  }
  // What is looked at is what is changed, whatever happens to its name.
  unique_fd fd{
      ::openat(parent, name,
               O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (is_folder ? O_DIRECTORY : 0))};
  if (!fd || ::fstat(fd.get(), &info) != 0) {
    return io_failure(errno, "cannot open " + path);
  }
  if (!is_folder && (!S_ISREG(info.st_mode) || info.st_nlink != 1)) {
    return {};
  }
  if (info.st_uid != user.uid && ::fchown(fd.get(), user.uid, user.gid) != 0) {
    return io_failure(errno, "cannot hand " + path + " over to the daemon's user");
  }
  return is_folder ? take_over_entries(std::move(fd), path, user) : result<void>{};
}

} // namespace

result<daemon_user> find_daemon_user(const settings& values) {
  const auto& wanted = values.daemon.user;
  if (auto number = parse_count(wanted); number && *number < std::numeric_limits<uid_t>::max()) {
    const auto id = static_cast<uid_t>(*number);
    const auto* entry = ::getpwuid(id);
    return daemon_user{id, entry != nullptr ? entry->pw_gid : id,
                       entry != nullptr ? entry->pw_name : ""};
  }
  if (const auto* entry = ::getpwnam(wanted.empty() ? default_user : wanted.c_str());
      entry != nullptr) {
    return daemon_user{entry->pw_uid, entry->pw_gid, entry->pw_name};
  }
  if (!wanted.empty()) {
    return fail(storage::ec::not_found,
                "daemon.user: there is no user " + wanted + " on this machine");
  }
  return daemon_user{values.jail.uid_first, values.jail.uid_first, ""};
}

vmm::launcher_config launcher_config_of(const settings& values, const daemon_user& user,
                                        const std::filesystem::path& program) {
  vmm::launcher_config out;
  auto set = [&](vmm::child_kind kind, const std::string& path) {
    out.contents.programs[static_cast<std::size_t>(kind)] = path;
  };
  set(vmm::child_kind::qemu, found_program(values.vm.qemu));
  set(vmm::child_kind::import_worker, program.string());
  set(vmm::child_kind::inspect_worker, program.string());
  set(vmm::child_kind::skopeo, found_program(values.import.skopeo));
  out.contents.guest_files = {values.kernel_path().string(), values.initramfs_path().string()};
  out.uid_first = values.jail.uid_first + 1;
  out.uid_count = values.jail.uid_count - 1;
  out.owner_uid = user.uid;
  out.owner_gid = user.gid;
  return out;
}

result<void> hand_over(const std::filesystem::path& state_dir, const daemon_user& user) {
  if (::mkdir(state_dir.c_str(), 0700) == 0) {
    // Its name must be as durable as what will be in it, and the daemon may not open what is above.
    if (auto synced = storage::sync_directory(state_dir / ".."); !synced) {
      return synced.error();
    }
  } else if (errno != EEXIST) {
    return io_failure(errno, "cannot make the folder " + state_dir.string());
  }
  if (is_in_use(state_dir)) {
    return {}; // which the start will be refused for
  }
  // The operator's own path may well lead over links; nothing below it may.
  std::error_code error;
  const auto folder = std::filesystem::canonical(state_dir, error);
  if (error) {
    return io_failure(error.value(), "cannot find " + state_dir.string());
  }
  return take_over(AT_FDCWD, folder.c_str(), folder.string(), user);
}

result<void> become(const daemon_user& user) {
  // A named user may be in groups that were made for it.
  const bool grouped = user.name.empty() ? ::setgroups(0, nullptr) == 0
                                         : ::initgroups(user.name.c_str(), user.gid) == 0;
  if (!grouped || ::setresgid(user.gid, user.gid, user.gid) != 0 ||
      ::setresuid(user.uid, user.uid, user.uid) != 0 ||
      ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return io_failure(errno, "cannot give up root");
  }
  return {};
}

} // namespace coppice::cli
