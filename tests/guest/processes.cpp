#include "tests/guest/feature.hpp"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iterator>
#include <sstream>

namespace features {
namespace {

std::string content(const std::string& path) {
  std::ifstream in{path};
  return {std::istreambuf_iterator<char>{in}, {}};
}

std::string namespace_of(const std::string& what) {
  return need(::unshare(static_cast<int>(std::stol(what, nullptr, 16))) == 0, "unshare");
}

std::string mapped_user(const std::string&) {
  if (::setgid(1000) < 0 || ::setuid(1000) < 0 || ::prctl(PR_SET_DUMPABLE, 1) < 0) {
    return failed("becoming an ordinary user");
  }
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET) < 0) {
    return failed("unshare");
  }
  std::ofstream{"/proc/self/uid_map"} << "0 1000 1\n";
  return need(::getuid() == 0, "uid_map");
}

std::string new_folder(const char* name) {
  std::string path = std::string{"/tmp/"} + name;
  ::mkdir(path.c_str(), 0755);
  return path;
}

std::string control_groups_v2(const std::string& controller) {
  const auto folder = new_folder("cgroup2");
  if (::mount("cgroup2", folder.c_str(), "cgroup2", 0, nullptr) < 0) {
    return failed("mounting cgroup2");
  }
  std::istringstream have{content(folder + "/cgroup.controllers")};
  bool is_there = false;
  for (std::string name; have >> name;) {
    is_there = is_there || name == controller;
  }
  ::umount(folder.c_str());
  return is_there ? std::string{} : "not in cgroup.controllers";
}

std::string control_groups_v1(const std::string& controller) {
  const auto folder = new_folder("cgroup1");
  const auto why = need(::mount("cgroup", folder.c_str(), "cgroup", 0, controller.c_str()) == 0,
                        "mounting cgroup");
  ::umount(folder.c_str());
  return why;
}

std::string seccomp_filter(const std::string&) {
  sock_filter allow{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
  sock_fprog program{1, &allow};
  std::uint32_t notify = SECCOMP_RET_USER_NOTIF;
  return need(
      ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
          ::syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &notify) == 0 &&
          ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0,
      "seccomp");
}

std::string tracing(const std::string&) {
  const auto child = ::fork();
  if (child == 0) {
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::raise(SIGSTOP);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  const bool is_stopped = WIFSTOPPED(status) && ::ptrace(PTRACE_CONT, child, nullptr, nullptr) == 0;
  ::waitpid(child, &status, 0);
  return need(is_stopped && WIFEXITED(status), "ptrace");
}

/// The way that 32-bit programs call the kernel; without it the processor faults.
std::string programs_of_32_bits(const std::string&) {
  long pid = 20; // getpid's number there
  asm volatile("int $0x80" : "+a"(pid) : : "memory", "r8", "r9", "r10", "r11");
  return need(pid == ::getpid(), "int 0x80");
}

std::string scripts(const std::string&) {
  std::ofstream{"/tmp/script"} << "#!/features time\n";
  ::chmod("/tmp/script", 0755);
  const auto child = ::fork();
  if (child == 0) {
    ::close(1);
    ::execl("/tmp/script", "/tmp/script", nullptr);
    ::_exit(errno == ENOEXEC ? 127 : 126);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status) == 127 ? "execve: exec format error" : std::string{};
}

std::string miscellaneous_formats(const std::string&) {
  const auto folder = new_folder("binfmt");
  if (::mount("binfmt_misc", folder.c_str(), "binfmt_misc", 0, nullptr) < 0) {
    return failed("mounting binfmt_misc");
  }
  const auto why = need(::access((folder + "/register").c_str(), W_OK) == 0, "register");
  ::umount(folder.c_str());
  return why;
}

std::string in_proc_and_sys(const std::string& path) {
  return need(::access(path.c_str(), F_OK) == 0, path);
}

std::string jit_for_bpf(const std::string&) {
  const auto value = content("/proc/sys/net/core/bpf_jit_enable");
  return value == "1\n" || value == "2\n" ? std::string{} : "bpf_jit_enable is not 1";
}

} // namespace

void add_processes(std::vector<feature>& to) {
  const std::pair<const char*, const char*> spaces[] = {
      {"mount", "20000"},   {"cgroup", "2000000"}, {"uts", "4000000"},  {"ipc", "8000000"},
      {"user", "10000000"}, {"pid", "20000000"},   {"net", "40000000"}, {"time", "80"}};
  for (auto [name, flag] : spaces) {
    to.push_back({std::string{"namespace_"} + name, namespace_of, flag});
  }
  to.push_back({"unprivileged_containers", mapped_user, ""});
  for (const char* name : {"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "misc"}) {
    to.push_back({std::string{"cgroup2_"} + name, control_groups_v2, name});
  }
  for (const char* name : {"cpuset", "cpu", "cpuacct", "blkio", "memory", "devices", "freezer",
                           "net_cls", "perf_event", "net_prio", "hugetlb", "pids"}) {
    to.push_back({std::string{"cgroup1_"} + name, control_groups_v1, name});
  }
  to.push_back({"seccomp_filter", seccomp_filter, ""});
  to.push_back({"ptrace", tracing, ""});
  to.push_back({"ia32", programs_of_32_bits, ""});
  to.push_back({"binfmt_script", scripts, ""});
  to.push_back({"binfmt_misc", miscellaneous_formats, ""});
  to.push_back({"bpf_jit", jit_for_bpf, ""});
  for (const char* path :
       {"/proc/swaps", "/proc/self/smaps", "/proc/self/io", "/proc/pressure/memory",
        "/proc/self/cgroup", "/proc/self/oom_score_adj", "/proc/self/timers",
        "/proc/sys/user/max_user_namespaces", "/proc/sys/kernel/core_pattern",
        "/proc/sys/vm/overcommit_memory", "/proc/thread-self/children", "/proc/sysvipc/shm",
        "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/mm/ksm/run",
        "/sys/devices/system/node/node0", "/sys/devices/system/cpu/online"}) {
    to.push_back({path, in_proc_and_sys, path});
  }
}

} // namespace features
