#include "vmm/agent/reaper.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

namespace coppice::agent {
namespace {

/// A killed process ends as soon as the system call that it is in allows.
constexpr int end_tries = 100;
constexpr long end_pause_ns = 50'000'000;

} // namespace

bool reap(const reaped& each) {
  for (;;) {
    int status = 0;
    rusage usage{};
    auto pid = ::wait4(-1, &status, WNOHANG, &usage);
    if (pid <= 0) {
      return pid < 0;
    }
    each(pid, status, usage);
  }
}

result<void> end_all_processes(const reaped& each) {
  if (::getpid() != 1) {
    return errno_failure(EPERM, "ending all processes from a process that is not the first");
  }
  sigset_t child_ended;
  ::sigemptyset(&child_ended);
  ::sigaddset(&child_ended, SIGCHLD);
  for (int i = 0; i < end_tries; ++i) {
    ::kill(-1, SIGKILL);
    if (reap(each)) {
      return {};
    }
    timespec wait{0, end_pause_ns};
    ::sigtimedwait(&child_ended, nullptr, &wait);
  }
  return errno_failure(EBUSY, "a killed process does not end");
}

} // namespace coppice::agent
