#include "tests/guest/feature.hpp"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/landlock.h>
#include <linux/membarrier.h>
#include <linux/perf_event.h>
#include <mqueue.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <ctime>

namespace features {
namespace {

template <class... A>
std::string call_succeeds(const char* name, long number, A... arguments) {
  return need(::syscall(number, arguments...) >= 0, name);
}

std::string futexes(const std::string&) {
  std::uint32_t word = 0;
  timespec short_while{0, 1'000'000};
  errno = 0;
  ::syscall(SYS_futex, &word, 0 /*WAIT*/, 0, &short_while, nullptr, 0);
  return need(errno == ETIMEDOUT, "futex");
}

std::string priority_futexes(const std::string&) {
  std::uint32_t word = 0;
  return call_succeeds("futex", SYS_futex, &word, 6 /*LOCK_PI*/, 0, nullptr, nullptr, 0);
}

std::string rings(const std::string&) {
  io_uring_params how{};
  return call_succeeds("io_uring_setup", SYS_io_uring_setup, 4, &how);
}

std::string asynchronous_io(const std::string&) {
  aio_context_t context = 0;
  return call_succeeds("io_setup", SYS_io_setup, 4, &context);
}

std::string event_descriptors(const std::string&) {
  sigset_t all;
  ::sigfillset(&all);
  const int event = ::eventfd(1, 0);
  const int poll = ::epoll_create1(0);
  epoll_event in{EPOLLIN, {}};
  if (event < 0 || poll < 0 || ::epoll_ctl(poll, EPOLL_CTL_ADD, event, &in) < 0 ||
      ::epoll_wait(poll, &in, 1, 1000) != 1) {
    return failed("epoll and eventfd");
  }
  return need(::signalfd(-1, &all, 0) >= 0, "signalfd");
}

std::string timer_descriptor(const std::string&) {
  const int timer = ::timerfd_create(CLOCK_MONOTONIC, 0);
  itimerspec at{{}, {0, 20'000'000}};
  std::uint64_t times = 0;
  return need(timer >= 0 && ::timerfd_settime(timer, 0, &at, nullptr) == 0 &&
                  ::read(timer, &times, sizeof(times)) == sizeof(times) && times == 1,
              "timerfd");
}

std::string inotify(const std::string&) {
  const int watch = ::inotify_init1(IN_NONBLOCK);
  return need(watch >= 0 && ::inotify_add_watch(watch, "/", IN_CREATE) >= 0, "inotify");
}

std::string fanotify(const std::string&) {
  const int watch = ::fanotify_init(FAN_CLASS_CONTENT | FAN_NONBLOCK, O_RDONLY);
  return need(watch >= 0 && ::fanotify_mark(watch, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN_PERM,
                                            AT_FDCWD, "/tmp") == 0,
              "fanotify");
}

std::string memory_file(const std::string&) {
  const int file = ::memfd_create("f", MFD_ALLOW_SEALING);
  return need(file >= 0 && ::ftruncate(file, 4096) == 0 &&
                  ::fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0,
              "memfd_create");
}

std::string performance_events(const std::string&) {
  perf_event_attr which{};
  which.size = sizeof(which);
  which.type = PERF_TYPE_SOFTWARE;
  which.config = PERF_COUNT_SW_TASK_CLOCK;
  const auto fd = static_cast<int>(::syscall(SYS_perf_event_open, &which, 0, -1, -1, 0));
  std::uint64_t count = 0;
  return need(fd >= 0 && ::read(fd, &count, sizeof(count)) == sizeof(count), "perf_event_open");
}

std::string bpf_maps_and_programs(const std::string&) {
  bpf_attr map{};
  map.map_type = BPF_MAP_TYPE_HASH;
  map.key_size = 4;
  map.value_size = 4;
  map.max_entries = 4;
  if (::syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof(map)) < 0) {
    return failed("bpf(BPF_MAP_CREATE)");
  }
  const std::array<bpf_insn, 2> give_zero{bpf_insn{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0},
                                          bpf_insn{BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  for (auto type : {BPF_PROG_TYPE_SOCKET_FILTER, BPF_PROG_TYPE_CGROUP_SKB,
                    BPF_PROG_TYPE_CGROUP_DEVICE, BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_XDP}) {
    bpf_attr program{};
    program.prog_type = type;
    program.insns = reinterpret_cast<std::uint64_t>(give_zero.data());
    program.insn_cnt = give_zero.size();
    program.license = reinterpret_cast<std::uint64_t>("GPL");
    if (::syscall(SYS_bpf, BPF_PROG_LOAD, &program, sizeof(program)) < 0) {
      return failed("bpf(BPF_PROG_LOAD) of type " + std::to_string(type));
    }
  }
  return {};
}

std::string keys(const std::string&) {
  const auto key = ::syscall(SYS_add_key, "user", "name", "value", 5, KEY_SPEC_PROCESS_KEYRING);
  char value[8];
  return need(key > 0 && ::syscall(SYS_keyctl, KEYCTL_READ, key, value, sizeof(value)) == 5,
              "add_key");
}

std::string message_queues(const std::string&) {
  const auto queue = ::mq_open("/features", O_RDWR | O_CREAT, 0600, nullptr);
  const bool is_used = queue >= 0 && ::mq_send(queue, "x", 1, 0) == 0;
  const auto why = need(is_used, "mq_open");
  ::mq_unlink("/features");
  return why;
}

std::string system_v_ipc(const std::string&) {
  const int memory = ::shmget(IPC_PRIVATE, 4096, 0600);
  const int semaphore = ::semget(IPC_PRIVATE, 1, 0600);
  const int queue = ::msgget(IPC_PRIVATE, 0600);
  const auto why = need(memory >= 0 && semaphore >= 0 && queue >= 0, "shmget, semget, msgget");
  ::shmctl(memory, IPC_RMID, nullptr);
  ::semctl(semaphore, 0, IPC_RMID);
  ::msgctl(queue, IPC_RMID, nullptr);
  return why;
}

std::string other_process_memory(const std::string&) {
  char from[] = "text";
  char to[sizeof(from)] = {};
  iovec local{to, sizeof(to)};
  iovec remote{from, sizeof(from)};
  return need(::process_vm_readv(::getpid(), &local, 1, &remote, 1, 0) == sizeof(from),
              "process_vm_readv");
}

std::string modern_calls(const std::string&) {
  landlock_ruleset_attr rules{};
  rules.handled_access_fs = LANDLOCK_ACCESS_FS_READ_FILE;
  const auto self = ::getpid();
  for (const auto& why :
       {call_succeeds("pidfd_open", SYS_pidfd_open, self, 0),
        call_succeeds("close_range", SYS_close_range, 1000, 1001, 0),
        call_succeeds("membarrier", SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0),
        call_succeeds("kcmp", SYS_kcmp, self, self, 1 /*VM*/, 0, 0),
        call_succeeds("landlock_create_ruleset", SYS_landlock_create_ruleset, &rules, sizeof(rules),
                      0),
        call_succeeds("userfaultfd", SYS_userfaultfd, O_CLOEXEC),
        call_succeeds("get_mempolicy", SYS_get_mempolicy, nullptr, nullptr, 0, nullptr, 0),
        call_succeeds("modify_ldt", SYS_modify_ldt, 0, nullptr, 0)}) {
    if (!why.empty()) {
      return why;
    }
  }
  return {};
}

std::string file_handles(const std::string&) {
  alignas(file_handle) unsigned char space[sizeof(file_handle) + MAX_HANDLE_SZ] = {};
  auto* handle = reinterpret_cast<file_handle*>(space);
  handle->handle_bytes = MAX_HANDLE_SZ;
  int mount = 0;
  return need(::name_to_handle_at(AT_FDCWD, "/", handle, &mount, 0) == 0, "name_to_handle_at");
}

std::string huge_pages(const std::string&) {
  const int count = ::open("/proc/sys/vm/nr_hugepages", O_WRONLY);
  if (count < 0 || ::write(count, "2", 1) != 1) {
    return failed("/proc/sys/vm/nr_hugepages");
  }
  auto* page = ::mmap(nullptr, 2 << 20, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
  const auto why = need(page != MAP_FAILED, "mmap(MAP_HUGETLB)");
  if (page != MAP_FAILED) {
    std::memset(page, 1, 2 << 20);
    ::munmap(page, 2 << 20);
  }
  return ::pwrite(count, "0", 1, 0) == 1 ? why : failed("giving huge pages back");
}

/// Timers fire and all clocks go on; what a kernel without a timer interrupt fails (by its limit).
std::string time_goes_on(const std::string&) {
  constexpr long pause_ns = 100'000'000;
  constexpr clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME};
  timespec before[std::size(clocks)];
  timespec coarse{};
  timespec later{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &coarse);
  for (std::size_t i = 0; i < std::size(clocks); ++i) {
    ::clock_gettime(clocks[i], &before[i]);
  }
  timespec pause{0, pause_ns};
  while (::nanosleep(&pause, &pause) < 0) {
  }
  const auto passed_ns = [&](clockid_t clock, const timespec& since) {
    ::clock_gettime(clock, &later);
    return (later.tv_sec - since.tv_sec) * 1'000'000'000L + later.tv_nsec - since.tv_nsec;
  };
  for (std::size_t i = 0; i < std::size(clocks); ++i) {
    if (passed_ns(clocks[i], before[i]) < pause_ns) {
      return "clock " + std::to_string(clocks[i]) + " stands still";
    }
  }
  // It goes on with the timer interrupt, one in 4 or 10 ms.
  return passed_ns(CLOCK_MONOTONIC_COARSE, coarse) < pause_ns / 2 ? "the tick stands still"
                                                                  : std::string{};
}

} // namespace

void add_system_calls(std::vector<feature>& to) {
  for (auto& one : std::vector<feature>{{"time", time_goes_on, ""},
                                        {"futex", futexes, ""},
                                        {"futex_pi", priority_futexes, ""},
                                        {"io_uring", rings, ""},
                                        {"aio", asynchronous_io, ""},
                                        {"epoll_eventfd_signalfd", event_descriptors, ""},
                                        {"timerfd", timer_descriptor, ""},
                                        {"inotify", inotify, ""},
                                        {"fanotify", fanotify, ""},
                                        {"memfd", memory_file, ""},
                                        {"perf_events", performance_events, ""},
                                        {"bpf", bpf_maps_and_programs, ""},
                                        {"keys", keys, ""},
                                        {"mqueue", message_queues, ""},
                                        {"sysv_ipc", system_v_ipc, ""},
                                        {"process_vm", other_process_memory, ""},
                                        {"modern_calls", modern_calls, ""},
                                        {"file_handles", file_handles, ""},
                                        {"huge_pages", huge_pages, ""}}) {
    to.push_back(std::move(one));
  }
}

} // namespace features
