#include "vmm/jail_root.hpp"

#include "vmm/unique_fd.hpp"

#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

namespace coppice::vmm {

namespace {

namespace fs = std::filesystem;

constexpr const char* loader = "/lib64/ld-linux-x86-64.so.2";
constexpr std::size_t list_bytes_max = 1u << 20;
// Covered by the roots, in the launcher's mount namespace only: nothing that it needs is there.
constexpr const char* cover = "/sys";

failure cannot(const std::string& what) {
  return fail(ec::spawn, what + ": " + std::strerror(errno));
}

/// Standard output of a program of the host; empty if it fails.
std::string output_of(std::vector<std::string> argv) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return {};
  }
  const unique_fd out{ends[0]};
  unique_fd in{ends[1]};
  std::vector<char*> pointers;
  for (auto& a : argv) {
    pointers.push_back(a.data());
  }
  pointers.push_back(nullptr);
  char* no_environment[] = {nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.get(), STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t pid = -1;
  const int error =
      ::posix_spawn(&pid, pointers[0], &actions, nullptr, pointers.data(), no_environment);
  posix_spawn_file_actions_destroy(&actions);
  in.reset();
  if (error != 0) {
    return {};
  }
  std::string text;
  char piece[4096];
  for (ssize_t n = 0; (n = ::read(out.get(), piece, sizeof(piece))) > 0;) {
    if (text.size() < list_bytes_max) {
      text.append(piece, static_cast<std::size_t>(n));
    }
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    // again
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? text : std::string{};
}

/// Builds one kind's folder. The first failure is kept and ends all further steps.
class root_builder {
public:
  explicit root_builder(std::string folder) : folder_{std::move(folder)} {}

  void begin() {
    if (::mkdir(folder_.c_str(), 0755) != 0 ||
        ::mount("jail", folder_.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m") != 0) {
      return give_up("mounting " + folder_);
    }
    for (const char* name : {"/dev", "/proc", "/empty", "/run"}) {
      folder(name);
    }
    for (const char* device : {"/dev/null", "/dev/urandom"}) {
      bind(device, device);
    }
  }

  void folder(const std::string& at) {
    std::error_code error;
    fs::create_directories(folder_ + at, error);
    if (error && failure_.empty()) {
      failure_ = "making " + at + ": " + error.message();
    }
  }

  /// A file or folder of the host, read-only; devices stay what they are.
  void bind(const std::string& from, const std::string& at) {
    struct stat info {};
    if (!failure_.empty() || !bound_.insert(at).second) {
      return;
    }
    if (::stat(from.c_str(), &info) != 0) {
      return give_up(from);
    }
    const auto target = folder_ + at;
    if (S_ISDIR(info.st_mode)) {
      folder(at);
    } else {
      folder(fs::path{at}.parent_path().string());
      const unique_fd made{::open(target.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0444)};
    }
    const unsigned long device = S_ISCHR(info.st_mode) ? 0ul : 0ul + MS_NODEV;
    if (::mount(from.c_str(), target.c_str(), nullptr, MS_BIND, nullptr) != 0 ||
        ::mount(nullptr, target.c_str(), nullptr,
                MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | device, nullptr) != 0) {
      give_up("mounting " + from);
    }
  }

  void bind_if_there(const std::string& from, const std::string& at) {
    std::error_code ignored;
    if (fs::exists(from, ignored)) {
      bind(from, at);
    }
  }

  /// A program or library with what it is linked with.
  void bind_code(const std::string& from, const std::string& at) {
    bind(from, at);
    for (const auto& library : libraries_of(from)) {
      bind(library, library);
      library_folders_.insert(fs::path{library}.parent_path().string());
    }
  }

  void link(const std::string& to, const std::string& at) {
    folder(fs::path{at}.parent_path().string());
    if (::symlink(to.c_str(), (folder_ + at).c_str()) != 0) {
      give_up("linking " + at);
    }
  }

  void device(const std::string& at) {
    const unique_fd made{::open((folder_ + at).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0444)};
  }

  result<jail_roots::kind_root> finish(const std::string& program) {
    if (failure_.empty() &&
        ::mount(nullptr, folder_.c_str(), nullptr,
                MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, nullptr) != 0) {
      give_up("making " + folder_ + " read-only");
    }
    if (!failure_.empty()) {
      return fail(ec::spawn, failure_);
    }
    std::string library_path;
    for (const auto& place : library_folders_) {
      // Where Debian's loader looks without being told.
      if (place != "/lib64" && place != "/lib/x86_64-linux-gnu" && place != "/lib" &&
          place != "/usr/lib/x86_64-linux-gnu" && place != "/usr/lib") {
        library_path += (library_path.empty() ? "" : ":") + place;
      }
    }
    return jail_roots::kind_root{folder_, program, library_path};
  }

private:
  void give_up(const std::string& what) {
    if (failure_.empty()) {
      failure_ = what + ": " + std::strerror(errno);
    }
  }

  std::string folder_;
  std::string failure_;
  std::set<std::string> bound_;
  std::set<std::string> library_folders_;
};

/// QEMU finds modules and firmware relative to itself, so it keeps its path.
std::string add_qemu(root_builder& root, const jail_contents& contents, const std::string& given) {
  std::error_code ignored;
  const auto program = fs::canonical(given, ignored).string();
  root.bind_code(program, program);
  const auto prefix = fs::path{program}.parent_path().parent_path().string();
  for (const auto& modules : {prefix + "/lib/x86_64-linux-gnu/qemu", prefix + "/lib/qemu"}) {
    for (const auto& entry : fs::directory_iterator{modules, ignored}) {
      const auto name = entry.path().filename().string();
      if (name.starts_with("accel-") && name.ends_with("-x86_64.so")) {
        root.bind_code(entry.path().string(), entry.path().string());
      }
    }
  }
  for (const auto& firmware : {prefix + "/share/qemu", prefix + "/share/seabios"}) {
    root.bind_if_there(firmware, firmware);
  }
  for (std::size_t i = 0; i < contents.guest_files.size(); ++i) {
    root.bind_if_there(contents.guest_files[i], guest_file_in_jail(contents, i));
  }
  root.device("/dev/kvm"); // the node is mounted there for those that use it
  return program;
}

std::string add_worker(root_builder& root, const std::string& program, bool has_folders) {
  constexpr const char* at = "/coppice";
  root.bind_code(program, at);
  if (has_folders) {
    root.folder("/scratch");
    root.folder("/layout");
  }
  return at;
}

std::string add_skopeo(root_builder& root, const std::string& program) {
  constexpr const char* at = "/skopeo";
  root.bind_code(program, at);
  for (const char* read :
       {"/etc/ssl/certs", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
        "/etc/containers", "/etc/docker/certs.d", "/etc/nsswitch.conf"}) {
    root.bind_if_there(read, read);
  }
  // Copied anew for each, since these change while the daemon runs.
  root.link("/run/resolv.conf", "/etc/resolv.conf");
  root.link("/run/hosts", "/etc/hosts");
  root.folder("/scratch");
  root.folder("/layout");
  return at;
}

/// The host's node may be for root or a group only, and a jail's user is in none.
std::string make_kvm_node(const std::string& folder) {
  struct stat info {};
  if (::stat("/dev/kvm", &info) != 0 || !S_ISCHR(info.st_mode)) {
    return {};
  }
  const auto node = folder + "/kvm";
  if (::mkdir(folder.c_str(), 0700) == 0 &&
      ::mount("kvm", folder.c_str(), "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k") == 0 &&
      ::mknod(node.c_str(), S_IFCHR | 0666, info.st_rdev) == 0 &&
      ::chmod(node.c_str(), 0666) == 0) {
    return node;
  }
  return "/dev/kvm"; // making nodes is forbidden: whoever may open the host's still can
}

} // namespace

std::vector<std::string> parse_library_list(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const auto path = line.find('/');
    const auto address = line.rfind(" (0x");
    if (path == line.npos || address == line.npos || path > address) {
      continue; // the vdso, or no library
    }
    const auto arrow = line.find("=> ");
    const auto begin = arrow != line.npos ? arrow + 3 : path;
    if (begin < address && line[begin] == '/') {
      out.emplace_back(line.substr(begin, address - begin));
    }
  }
  return out;
}

std::vector<std::string> libraries_of(const std::string& file) {
  auto out = parse_library_list(output_of({loader, "--list", file}));
  if (!out.empty() && std::find(out.begin(), out.end(), loader) == out.end()) {
    out.emplace_back(loader);
  }
  return out;
}

std::string guest_file_in_jail(const jail_contents& contents, std::size_t index) {
  return "/guest/" + std::to_string(index) + "/" +
         fs::path{contents.guest_files[index]}.filename().string();
}

result<jail_roots> jail_roots::build(const jail_contents& contents) {
  if (::unshare(CLONE_NEWNS) != 0) {
    return cannot("making a mount namespace");
  }
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return cannot("making mounts private");
  }
  if (::mount("jails", cover, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700,size=1m") != 0) {
    return cannot(std::string{"mounting on "} + cover);
  }
  jail_roots out;
  for (std::size_t i = 1; i < child_kinds; ++i) {
    const auto kind = static_cast<child_kind>(i);
    const auto& program = contents.programs[i];
    if (program.empty()) {
      continue;
    }
    root_builder root{std::string{cover} + "/" + std::string{to_string(kind)}};
    root.begin();
    std::string inside;
    switch (kind) {
    case child_kind::qemu:
      inside = add_qemu(root, contents, program);
      break;
    case child_kind::import_worker:
    case child_kind::inspect_worker:
      inside = add_worker(root, program, kind == child_kind::import_worker);
      break;
    case child_kind::skopeo:
      inside = add_skopeo(root, program);
      break;
    case child_kind::plain:
      break;
    }
    auto made = root.finish(inside);
    if (!made) {
      return fail(ec::spawn, "root of " + std::string{to_string(kind)} + ": " + made.error().text);
    }
    out.roots_[i] = std::move(*made);
  }
  out.kvm_ = make_kvm_node(std::string{cover} + "/device");
  return out;
}

} // namespace coppice::vmm
