#include "vmm/agent/reaper.hpp"

#include <chrono>

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

namespace coppice::agent {
namespace {

/// A killed process ends as soon as the system call that it is in allows; a thousand of them on a
/// slow processor take seconds.
constexpr std::chrono::seconds end_max{10};
constexpr long end_pause_ns = 50'000'000;
constexpr int reap_share = 64;

} // namespace

children reap(const reaped& each) {
  for (int i = 0; i < reap_share; ++i) {
    int status = 0;
    rusage usage{};
    auto pid = ::wait4(-1, &status, WNOHANG, &usage);
    if (pid <= 0) {
      return pid < 0 ? children::none : children::running;
    }
    each(pid, status, usage);
  }
  return children::ended;
}

result<void> end_all_processes(const reaped& each) {
  if (::getpid() != 1) {
    return errno_failure(EPERM, "ending all processes from a process that is not the first");
  }
  sigset_t child_ended;
  ::sigemptyset(&child_ended);
  ::sigaddset(&child_ended, SIGCHLD);
  auto until = std::chrono::steady_clock::now() + end_max;
  while (std::chrono::steady_clock::now() < until) {
    ::kill(-1, SIGKILL);
    auto left = reap(each);
    if (left == children::none) {
      return {};
    }
    if (left == children::running) {
      timespec wait{0, end_pause_ns};
      ::sigtimedwait(&child_ended, nullptr, &wait);
    }
  }
  return errno_failure(EBUSY, "a killed process does not end");
}

} // namespace coppice::agent
