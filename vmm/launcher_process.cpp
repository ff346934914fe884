#include "vmm/cgroup.hpp"
#include "vmm/jail.hpp"
#include "vmm/launcher.hpp"
#include "vmm/launcher_wire.hpp"
#include "vmm/uid_pool.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <unordered_map>

// The privileged process: see launcher.hpp. What it takes from the daemon is one packet at a time,
// parsed in launch_request.cpp; everything else here was decided before the first one.

namespace coppice::vmm {

namespace {

constexpr int exit_usage = 2;

class launcher_process {
public:
  launcher_process(launcher_config config, jail_roots roots, std::optional<cgroup_tree> groups,
                   bool has_user_namespaces)
      : config_{std::move(config)}, roots_{std::move(roots)}, groups_{std::move(groups)},
        has_user_namespaces_{has_user_namespaces}, uids_{config_.uid_first, config_.uid_count} {}

  /// Serves requests until the daemon is gone.
  int run();

private:
  struct jail {
    uid_t uid = 0;
    std::string group; ///< its cgroup; empty: none
  };

  launch_answer start(received& message, unique_fd& pidfd);
  result<int> start_jail(jail_plan plan, unique_fd& pidfd);
  void reap();
  void kill_all();

  launcher_config config_;
  jail_roots roots_;
  std::optional<cgroup_tree> groups_;
  bool has_user_namespaces_;
  uid_pool uids_;
  std::unordered_map<pid_t, jail> jails_; // by the pid of the guard, until that is reaped
  std::uint64_t number_ = 0;              // of the next cgroup
};

launch_answer launcher_process::start(received& message, unique_fd& pidfd) {
  if (!message.is_whole) {
    return make_answer(-1, "the request to the launcher is refused: it is too long");
  }
  auto request = parse_launch_request(message.bytes, message.descriptors.size());
  if (!request) {
    return make_answer(-1, request.error().text);
  }
  if (roots_.of(request->kind).folder.empty()) {
    return make_answer(-1, "the program of the kind " + std::string{to_string(request->kind)} +
                               " was not there when the daemon started");
  }
  auto uid = uids_.take();
  if (!uid) {
    return make_answer(-1, "all " + std::to_string(config_.uid_count) +
                               " user ids for jails are in use: raise jail.uid_count");
  }
  jail_plan plan;
  plan.request = std::move(*request);
  plan.roots = &roots_;
  plan.uid = *uid;
  plan.owner_uid = config_.owner_uid;
  plan.owner_gid = config_.owner_gid;
  plan.has_user_namespaces = has_user_namespaces_;
  for (const auto& fd : message.descriptors) {
    plan.descriptors.push_back(fd.get());
  }
  auto pid = start_jail(std::move(plan), pidfd);
  if (!pid) {
    uids_.give_back(*uid);
    return make_answer(-1, pid.error().text);
  }
  return make_answer(*pid, {});
}

result<int> launcher_process::start_jail(jail_plan plan, unique_fd& pidfd) {
  const auto& places = plan.request.placements;
  const bool has_folder = std::any_of(places.begin(), places.end(), [](std::int16_t place) {
    return place == placement::scratch || place == placement::layout;
  });
  unique_fd id_map;
  if (has_folder) {
    auto made = make_id_map(plan.owner_uid, plan.owner_gid, plan.uid);
    if (made) { // else the jail runs as the folder's owner
      id_map = std::move(*made);
      plan.id_map = id_map.get();
    }
  }
  jail entry{plan.uid, {}};
  unique_fd group;
  if (groups_) {
    entry.group = "jail-" + std::to_string(number_++);
    const auto most = limits_of(plan.request);
    auto made = groups_->make(
        entry.group, {plan.request.memory_bytes, static_cast<std::uint32_t>(most.processes)});
    if (!made) {
      return made.error();
    }
    group = std::move(*made);
    plan.cgroup_entry = group.get();
  }
  int fd = -1;
  const auto flags = static_cast<unsigned long>(namespaces_of(plan.request.kind)) |
                     static_cast<unsigned long>(CLONE_PIDFD | SIGCHLD);
  // Without a stack of its own: like fork.
  const auto pid = static_cast<pid_t>(::syscall(SYS_clone, flags, 0, &fd, 0, 0));
  if (pid == 0) {
    enter_jail(std::move(plan));
  }
  if (pid < 0) {
    auto why = fail(ec::spawn, std::string{"making namespaces: "} + std::strerror(errno));
    if (groups_) {
      groups_->remove(entry.group);
    }
    return why;
  }
  pidfd.reset(fd);
  jails_.emplace(pid, std::move(entry));
  return pid;
}

void launcher_process::reap() {
  for (;;) {
    const pid_t pid = ::waitpid(-1, nullptr, WNOHANG);
    if (pid <= 0) {
      return;
    }
    // The first process of a pid namespace is gone only after all others in it.
    if (auto at = jails_.find(pid); at != jails_.end()) {
      uids_.give_back(at->second.uid);
      if (groups_ && !at->second.group.empty()) {
        groups_->remove(at->second.group);
      }
      jails_.erase(at);
    }
  }
}

void launcher_process::kill_all() {
  for (const auto& [pid, ignored] : jails_) {
    ::kill(pid, SIGKILL); // not reaped yet, so the number is still its own
  }
  while (::waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
    // until all are gone
  }
  for (const auto& [ignored, ended] : jails_) {
    if (groups_ && !ended.group.empty()) {
      groups_->remove(ended.group);
    }
  }
}

int launcher_process::run() {
  sigset_t child_signal;
  sigemptyset(&child_signal);
  sigaddset(&child_signal, SIGCHLD);
  const unique_fd signals{::signalfd(-1, &child_signal, SFD_CLOEXEC | SFD_NONBLOCK)};
  for (;;) {
    pollfd waits[2] = {{launcher_socket_number, POLLIN, 0}, {signals.get(), POLLIN, 0}};
    if (::poll(waits, 2, -1) < 0 && errno != EINTR) {
      break;
    }
    if (waits[1].revents != 0) {
      signalfd_siginfo info{};
      static_cast<void>(::read(signals.get(), &info, sizeof(info)));
      reap();
    }
    if (waits[0].revents == 0) {
      continue;
    }
    received message;
    if (receive(launcher_socket_number, launch_limits::request_bytes_max, message) !=
        receipt::message) {
      break;
    }
    unique_fd pidfd;
    const auto answer = start(message, pidfd);
    const int handed[] = {pidfd.get()};
    const std::span<const int> descriptors{handed, pidfd ? 1u : 0u};
    if (!send_packet(launcher_socket_number, std::as_bytes(std::span{&answer, 1}), descriptors)) {
      break;
    }
  }
  kill_all();
  return 0;
}

/// The rights that jails are made with; all others go now, also those of root's own number.
bool keep_needed_rights() {
  constexpr int needed[] = {
      CAP_SYS_ADMIN, // namespaces and mounts
      CAP_SETUID,    // to become a jail's user, and to map it
      CAP_SETGID,
      CAP_SETPCAP,      // to give up all of these in a jail, for good
      CAP_SETFCAP,      // to map the daemon's user where that is root
      CAP_DAC_OVERRIDE, // to find a folder below others that are not for everybody
      CAP_KILL,         // what is left when the daemon is gone
  };
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct rights[_LINUX_CAPABILITY_U32S_3] = {};
  if (::syscall(SYS_capget, &header, rights) != 0) {
    return false;
  }
  for (auto& half : rights) {
    half.inheritable = 0;
  }
  for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    if (std::find(std::begin(needed), std::end(needed), capability) == std::end(needed)) {
      const auto bit = ~(1u << (static_cast<unsigned>(capability) % 32));
      auto& half = rights[capability / 32];
      half.permitted &= bit;
      half.effective &= bit;
      if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) {
        return false;
      }
    }
  }
  return ::syscall(SYS_capset, &header, rights) == 0;
}

/// Whether the range is mapped into the user namespace that we are in (in many containers only the
/// first 65536 ids are).
bool is_mapped(uid_t uid) {
  auto* file = std::fopen("/proc/self/uid_map", "re");
  unsigned long long inside = 0;
  unsigned long long outside = 0;
  unsigned long long count = 0;
  bool found = false;
  while (file != nullptr && std::fscanf(file, "%llu %llu %llu", &inside, &outside, &count) == 3) {
    found = found || (uid >= inside && uid - inside < count);
  }
  if (file != nullptr) {
    std::fclose(file);
  }
  return found;
}

int refuse(const std::string& why) {
  const auto answer = make_answer(-1, why);
  static_cast<void>(send_packet(launcher_socket_number, std::as_bytes(std::span{&answer, 1}), {}));
  return 1;
}

} // namespace

int launcher_main(int argc, char** argv) {
  auto config = parse_launcher_arguments({argv + std::min(argc, 2), argv + argc});
  int kind = 0;
  socklen_t size = sizeof(kind);
  if (!config || ::getsockopt(launcher_socket_number, SOL_SOCKET, SO_TYPE, &kind, &size) != 0 ||
      kind != SOCK_SEQPACKET || ::fcntl(launcher_socket_number, F_SETFD, FD_CLOEXEC) != 0) {
    std::fputs("launcher is started by coppice itself, not by hand\n", stderr);
    return exit_usage;
  }
  ::prctl(PR_SET_NAME, "coppice-launch", 0, 0, 0);
  ::setsid(); // what a terminal sends to the daemon is for the daemon to act on
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  ::umask(022);
  sigset_t all;
  sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  if (config->uid_count == 0 || !is_mapped(config->uid_first) ||
      !is_mapped(config->uid_first + config->uid_count - 1)) {
    return refuse("the user ids for jails, " + std::to_string(config->uid_count) + " from " +
                  std::to_string(config->uid_first) +
                  ", do not exist in this container: set jail.uid_first and jail.uid_count");
  }
  // Before the roots cover the folder where cgroups are.
  std::optional<cgroup_tree> groups;
  std::string without_cgroups = "there is no cgroup v2 folder";
  if (const auto folder = own_cgroup_folder(); !folder.empty()) {
    auto taken = cgroup_tree::take(folder, {::getpid(), ::getppid()});
    if (taken) {
      groups = std::move(*taken);
      without_cgroups.clear();
    } else {
      without_cgroups = taken.error().text;
    }
  }
  auto roots = jail_roots::build(config->contents);
  if (!roots) {
    return refuse(roots.error().text);
  }
  const bool has_user_namespaces = may_make_user_namespaces(config->uid_first);
  if (!keep_needed_rights()) {
    return refuse(std::string{"giving up rights: "} + std::strerror(errno));
  }
  const auto facts = std::string{has_user_namespaces ? "user-namespaces\n" : ""} +
                     (without_cgroups.empty() ? "" : "without-cgroups=" + without_cgroups);
  const auto greeting = make_answer(::getpid(), facts);
  if (!send_packet(launcher_socket_number, std::as_bytes(std::span{&greeting, 1}), {})) {
    return 1;
  }
  launcher_process process{std::move(*config), std::move(*roots), std::move(groups),
                           has_user_namespaces};
  return process.run();
}

} // namespace coppice::vmm
