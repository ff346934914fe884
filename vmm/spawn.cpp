#include "vmm/spawn.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <memory>

namespace coppice::vmm {

namespace {

constexpr std::size_t stack_bytes = 64u << 10;

enum class stage { none, descriptors, working_dir, execute };

/// All that the child needs, prepared beforehand: it must not allocate. Memory is shared with it.
struct child_plan {
  const char* program = nullptr;
  const char* working_dir = nullptr;
  char* const* argv = nullptr;
  char* const* environment = nullptr;
  const std::pair<int, int>* moves = nullptr; // from a number above `last_kept` to its own
  std::size_t move_count = 0;
  const std::pair<unsigned, unsigned>* gaps = nullptr; // numbers to close, both ends included
  std::size_t gap_count = 0;
  volatile stage failed_at = stage::none;
  volatile int error_number = 0;
};

[[noreturn, gnu::no_sanitize_address]] void stop_at(child_plan& plan, stage where) {
  plan.error_number = errno;
  plan.failed_at = where;
  ::_exit(127);
}

/// Runs in the child on borrowed memory: system calls only.
[[gnu::no_sanitize_address]] int run_child(void* argument) {
  auto& plan = *static_cast<child_plan*>(argument);
  ::setsid();
  for (std::size_t i = 0; i < plan.move_count; ++i) {
    if (::dup2(plan.moves[i].first, plan.moves[i].second) < 0) {
      stop_at(plan, stage::descriptors);
    }
  }
  for (std::size_t i = 0; i < plan.gap_count; ++i) {
    if (::close_range(plan.gaps[i].first, plan.gaps[i].second, 0) != 0) {
      stop_at(plan, stage::descriptors);
    }
  }
  if (::chdir(plan.working_dir) != 0) {
    stop_at(plan, stage::working_dir);
  }
  ::execve(plan.program, plan.argv, plan.environment);
  stop_at(plan, stage::execute);
}

std::vector<char*> c_strings(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (const auto& s : strings) {
    out.push_back(const_cast<char*>(s.c_str()));
  }
  out.push_back(nullptr);
  return out;
}

/// The numbers that are not listed, as ranges up to the highest possible.
std::vector<std::pair<unsigned, unsigned>> gaps_between(std::vector<int> kept) {
  std::sort(kept.begin(), kept.end());
  std::vector<std::pair<unsigned, unsigned>> out;
  unsigned next = 0;
  for (int number : kept) {
    auto n = static_cast<unsigned>(number);
    if (n > next) {
      out.emplace_back(next, n - 1);
    }
    next = n + 1;
  }
  out.emplace_back(next, ~0u);
  return out;
}

failure spawn_failure(const spawn_request& request, stage where, int error_number) {
  std::string text = "starting " + request.program + ": ";
  if (where == stage::working_dir) {
    text += "working directory " + request.working_dir + ": ";
  } else if (where == stage::descriptors) {
    text += "passing descriptors: ";
  }
  return fail(ec::spawn, text + std::strerror(error_number));
}

/// One attempt; errno tells why there is no process.
int clone_child(child_plan& plan, int extra_flags, int& pidfd) {
  auto stack = std::make_unique<char[]>(stack_bytes);
  auto top = reinterpret_cast<std::uintptr_t>(stack.get() + stack_bytes) & ~std::uintptr_t{15};
  // A handler that ran in the child would run on the parent's memory: block all around the call.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int pid = ::clone(run_child, reinterpret_cast<void*>(top),
                    CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD | extra_flags, &plan, &pidfd);
  int error_number = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error_number;
  return pid;
}

} // namespace

result<spawned_process> spawn(const spawn_request& request) {
  std::vector<int> kept;
  for (const auto& [ours, number] : request.descriptors) {
    if (number < 0 || number > descriptor_number_max ||
        std::find(kept.begin(), kept.end(), number) != kept.end()) {
      return fail(ec::spawn, "starting " + request.program + ": descriptor number " +
                                 std::to_string(number) + " is out of range or given twice");
    }
    kept.push_back(number);
  }
  // Copies above every number that is wanted, so that no move overwrites the source of another.
  std::vector<unique_fd> copies;
  std::vector<std::pair<int, int>> moves;
  for (const auto& [ours, number] : request.descriptors) {
    copies.emplace_back(::fcntl(ours, F_DUPFD_CLOEXEC, descriptor_number_max + 1));
    if (!copies.back()) {
      return spawn_failure(request, stage::descriptors, errno);
    }
    moves.emplace_back(copies.back().get(), number);
  }
  auto gaps = gaps_between(kept);
  auto argv = c_strings(request.argv);
  auto environment = c_strings(request.environment);

  child_plan plan;
  plan.program = request.program.c_str();
  plan.working_dir = request.working_dir.c_str();
  plan.argv = argv.data();
  plan.environment = environment.data();
  plan.moves = moves.data();
  plan.move_count = moves.size();
  plan.gaps = gaps.data();
  plan.gap_count = gaps.size();

  spawned_process out;
  int pidfd = -1;
  out.leads_namespace = true;
  out.pid = clone_child(plan, CLONE_NEWPID, pidfd);
  if (out.pid < 0 && (errno == EPERM || errno == ENOSPC || errno == EINVAL)) {
    out.leads_namespace = false;
    out.pid = clone_child(plan, 0, pidfd);
  }
  if (out.pid < 0) {
    return spawn_failure(request, stage::none, errno);
  }
  out.pidfd.reset(pidfd);
  if (plan.failed_at != stage::none) {
    siginfo_t ignored{};
    ::waitid(P_PIDFD, static_cast<id_t>(out.pidfd.get()), &ignored, WEXITED);
    return spawn_failure(request, plan.failed_at, plan.error_number);
  }
  return out;
}

} // namespace coppice::vmm
