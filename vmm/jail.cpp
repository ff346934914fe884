#include "vmm/jail.hpp"

#include "vmm/guard.hpp"
#include "vmm/jail_filter.hpp"
#include "vmm/jail_mounts.hpp"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

namespace coppice::vmm {

namespace {

constexpr std::uint64_t mib = 1u << 20;
constexpr std::uint64_t gib = 1u << 30;
constexpr int exit_no_jail = 127;
// Above every number that a request may give out, so that no move hits another's source.
constexpr int parking = launch_limits::descriptor_number_max + 64;

/// A descriptor's number among the parked ones; -1 if the request has none for that place.
int parked(const jail_plan& plan, std::int16_t place) {
  const auto& places = plan.request.placements;
  const auto at = std::find(places.begin(), places.end(), place);
  return at == places.end() ? -1 : plan.descriptors[static_cast<std::size_t>(at - places.begin())];
}

/// The last words of a jail that could not be made: for the daemon, through the life-line and where
/// the program's own errors would go.
[[noreturn]] void give_up(const jail_plan& plan, const std::string& why) {
  const auto text = "jail: " + why + "\n";
  if (const int errors = parked(plan, STDERR_FILENO); errors >= 0) {
    static_cast<void>(::write(errors, text.data(), text.size()));
  }
  const guard_report out{exit_no_jail, -1};
  static_cast<void>(::send(parked(plan, placement::lifeline), &out, sizeof(out), MSG_NOSIGNAL));
  ::_exit(exit_no_jail);
}

void require(const jail_plan& plan, bool is_done, const char* what) {
  if (!is_done) {
    give_up(plan, std::string{what} + ": " + std::strerror(errno));
  }
}

/// Moves all descriptors out of the way of the numbers that are wanted.
void park(jail_plan& plan) {
  for (auto& fd : plan.descriptors) {
    const int high = ::fcntl(fd, F_DUPFD_CLOEXEC, parking);
    require(plan, high >= 0, "moving descriptors");
    fd = high;
  }
}

/// Places the listed descriptors, closes all others; gives the life-line's number.
int place(const jail_plan& plan) {
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  require(plan, nothing >= 0, "/dev/null");
  int next = STDERR_FILENO + 1;
  std::vector<int> kept;
  for (auto wanted : plan.request.placements) {
    next = std::max(next, wanted + 1);
  }
  for (int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    require(plan, ::dup2(nothing, standard) >= 0, "placing descriptors");
    kept.push_back(standard);
  }
  for (std::size_t i = 0; i < plan.descriptors.size(); ++i) {
    const int wanted = plan.request.placements[i];
    if (wanted >= 0) {
      require(plan, ::dup2(plan.descriptors[i], wanted) >= 0, "placing descriptors");
      kept.push_back(wanted);
    }
  }
  require(plan, ::dup3(parked(plan, placement::lifeline), next, O_CLOEXEC) >= 0, "the life-line");
  kept.push_back(next);
  std::sort(kept.begin(), kept.end());
  unsigned from = 0;
  for (int number : kept) {
    const auto n = static_cast<unsigned>(number);
    if (n > from) {
      ::close_range(from, n - 1, 0);
    }
    from = n + 1;
  }
  ::close_range(from, ~0u, 0);
  return next;
}

/// For good: from here on this process is a user without any capability.
bool become(uid_t uid, gid_t gid) {
  for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) {
      return false;
    }
  }
  if (::setgroups(0, nullptr) != 0 || ::setresgid(gid, gid, gid) != 0 ||
      ::setresuid(uid, uid, uid) != 0) {
    return false;
  }
  // A user with the number 0 (the daemon's own, if it stays root) keeps them otherwise.
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
  return ::syscall(SYS_capset, &header, none) == 0 && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

bool write_file(const char* path, const std::string& text) {
  const unique_fd file{::open(path, O_WRONLY | O_CLOEXEC)};
  return file && ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

/// In a user namespace of its own, with nothing but the right to change its root folder.
const char* keep_chroot_only(uid_t uid) {
  // Files in /proc/self belong to root in a process that has changed its user.
  ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  if (::unshare(CLONE_NEWUSER) != 0) {
    return "making a user namespace";
  }
  const auto itself = std::to_string(uid) + " " + std::to_string(uid) + " 1";
  if (!write_file("/proc/self/setgroups", "deny") || !write_file("/proc/self/uid_map", itself) ||
      !write_file("/proc/self/gid_map", itself)) {
    return "mapping the user";
  }
  for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    if (capability != CAP_SYS_CHROOT && ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) {
      return "giving up capabilities";
    }
  }
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct only[_LINUX_CAPABILITY_U32S_3] = {};
  only[0] = {1u << CAP_SYS_CHROOT, 1u << CAP_SYS_CHROOT, 1u << CAP_SYS_CHROOT};
  if (::syscall(SYS_capset, &header, only) != 0 ||
      ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_CHROOT, 0, 0) != 0) {
    return "keeping the right to change the root";
  }
  return nullptr;
}

bool limit(__rlimit_resource_t resource, std::uint64_t most) {
  rlimit now{};
  ::getrlimit(resource, &now);
  now.rlim_max = std::min<rlim_t>(now.rlim_max, most);
  now.rlim_cur = now.rlim_max;
  return ::setrlimit(resource, &now) == 0;
}

/// What is done in the program's own process, right before it is executed.
const char* confine_program(const void* context) {
  const auto& plan = *static_cast<const jail_plan*>(context);
  const auto most = limits_of(plan.request);
  if (plan.has_user_namespaces && plan.request.kind == child_kind::qemu) {
    if (const char* why = keep_chroot_only(plan.uid); why != nullptr) {
      return why;
    }
  }
  if (plan.request.kind == child_kind::qemu && !plan.request.needs_kvm) {
    // Of the buffer for translated code huge pages would take 2.5 MiB more than is used.
    static_cast<void>(::prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
  }
  const bool shares_user = plan.uid == plan.owner_uid; // then the daemon's threads would count
  if (!limit(RLIMIT_CORE, 0) || !limit(RLIMIT_FSIZE, most.file_bytes) ||
      !limit(RLIMIT_NOFILE, most.open_files) || !limit(RLIMIT_AS, most.address_space_bytes) ||
      (!shares_user && !limit(RLIMIT_NPROC, most.processes))) {
    return "setting limits";
  }
  return install_jail_filter() ? nullptr : "filtering system calls";
}

std::vector<char*> pointers_to(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (auto& s : strings) {
    out.push_back(s.data());
  }
  out.push_back(nullptr);
  return out;
}

/// The program's whole command line.
std::vector<std::string> arguments_of(const jail_plan& plan, const std::string& program) {
  std::vector<std::string> out{program};
  if (plan.request.kind != child_kind::qemu && plan.request.kind != child_kind::skopeo) {
    out.emplace_back(to_string(plan.request.kind)); // the worker's subcommand
  }
  out.insert(out.end(), plan.request.arguments.begin(), plan.request.arguments.end());
  if (plan.request.kind == child_kind::qemu && plan.has_user_namespaces) {
    out.insert(out.end(), {"-chroot", "/empty"});
  }
  return out;
}

} // namespace

int namespaces_of(child_kind kind) {
  const int all = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS;
  return kind == child_kind::skopeo ? all : all | CLONE_NEWNET;
}

jail_limits limits_of(const launch_request& request) {
  jail_limits out;
  switch (request.kind) {
  case child_kind::qemu:
    out = {16 * gib, 0, 512, 512};
    break;
  case child_kind::import_worker:
    out = {5 * gib, 0, 1024, 64};
    break;
  case child_kind::inspect_worker:
    out = {3 * gib, 0, 64, 64};
    break;
  case child_kind::skopeo:
    out = {64 * gib, 0, 1024, 512}; // Go reserves much more than it uses
    break;
  case child_kind::plain:
    break;
  }
  if (request.address_space_bytes != 0) {
    out.address_space_bytes = std::max(request.address_space_bytes, 64 * mib);
  }
#ifdef __SANITIZE_ADDRESS__ // whose shadow memory alone takes terabytes of address space
  out.address_space_bytes = RLIM_INFINITY;
#endif
  out.file_bytes = request.file_bytes;
  return out;
}

std::vector<std::string> environment_of(child_kind kind, const jail_roots::kind_root& root) {
  std::vector<std::string> out{kind == child_kind::qemu ? "LC_ALL=C" : "LANG=C.UTF-8"};
  if (kind == child_kind::skopeo || kind == child_kind::import_worker) {
    out.insert(out.end(), {"PATH=/nowhere", "HOME=/scratch", "TMPDIR=/scratch"});
  }
  if (!root.library_path.empty()) {
    out.push_back("LD_LIBRARY_PATH=" + root.library_path);
  }
  return out;
}

result<unique_fd> make_id_map(uid_t owner_uid, gid_t owner_gid, uid_t jail) {
  // Somebody must be in a namespace while its maps are written. Nothing but this is asked of it.
  const auto pid = static_cast<pid_t>(::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
  if (pid == 0) {
    for (;;) {
      ::pause();
    }
  }
  auto why = std::string{std::strerror(errno)};
  unique_fd out;
  if (pid > 0) {
    const auto folder = "/proc/" + std::to_string(pid);
    const auto map = [&](const char* file, std::uint32_t owner) {
      return write_file((folder + file).c_str(),
                        std::to_string(owner) + " " + std::to_string(jail) + " 1");
    };
    if (map("/uid_map", owner_uid) && map("/gid_map", owner_gid)) {
      out.reset(::open((folder + "/ns/user").c_str(), O_RDONLY | O_CLOEXEC));
    }
    why = std::strerror(errno);
    ::kill(pid, SIGKILL);
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
      // again
    }
  }
  if (!out) {
    return fail(ec::spawn, "mapping users of a mount: " + why);
  }
  return out;
}

bool may_make_user_namespaces(uid_t as_user) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::_exit(become(as_user, as_user) && keep_chroot_only(as_user) == nullptr ? 0 : 1);
  }
  int status = 1;
  while (pid > 0 && ::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    // again
  }
  return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void enter_jail(jail_plan plan) {
  ::setsid();
  ::prctl(PR_SET_NAME, "coppice-guard", 0, 0, 0);
  park(plan);
  if (plan.cgroup_entry >= 0) {
    require(plan, ::write(plan.cgroup_entry, "0", 1) == 1, "entering the cgroup");
  }
  const auto& root = plan.roots->of(plan.request.kind);
  jail_mounts mounts;
  mounts.root = root.folder;
  mounts.scratch = parked(plan, placement::scratch);
  mounts.layout = parked(plan, placement::layout);
  mounts.id_map = plan.id_map;
  mounts.kvm = plan.request.needs_kvm ? plan.roots->kvm() : std::string{};
  mounts.has_network = plan.request.kind == child_kind::skopeo;
  auto made = make_mounts(mounts);
  if (!made) {
    give_up(plan, made.error().text);
  }
  gid_t gid = plan.uid;
  if (*made == folder_owner::unmapped) {
    // No id-mapped mounts on this file system: only the folder's owner can write there.
    plan.uid = plan.owner_uid;
    gid = plan.owner_gid;
  }
  require(plan, ::sethostname("jail", 4) == 0, "naming the host");
  const int lifeline = place(plan);
  // From here on the parked descriptors are gone, and with them the way to complain but stderr.
  if (!become(plan.uid, gid)) {
    std::perror("jail: giving up rights");
    ::_exit(exit_no_jail);
  }
  auto arguments = arguments_of(plan, root.program);
  auto environment = environment_of(plan.request.kind, root);
  auto argv = pointers_to(arguments);
  auto variables = pointers_to(environment);
  guard_order order;
  order.lifeline = lifeline;
  order.leads_namespace = true;
  order.path = root.program.c_str();
  order.argv = argv.data();
  order.environment = variables.data();
  order.prepare = confine_program;
  order.context = &plan;
  ::_exit(run_guard(order));
}

} // namespace coppice::vmm
