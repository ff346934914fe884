#include "vmm/guard.hpp"

#include "vmm/child_process.hpp"
#include "vmm/unique_fd.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace coppice::vmm {

namespace {

constexpr int exit_usage = 2;
constexpr int exit_cannot_execute = 127;

std::optional<guard_order> parse_order(int argc, char** argv) {
  int first = argc > 1 && std::string_view{argv[1]} == guard_command ? 2 : 1;
  if (argc < first + 3) {
    return std::nullopt;
  }
  guard_order out;
  const std::string_view number = argv[first];
  auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), out.lifeline);
  if (error != std::errc{} || end != number.data() + number.size() || out.lifeline < 0) {
    return std::nullopt;
  }
  out.leads_namespace = ::getpid() == 1;
  out.path = argv[first + 1];
  out.argv = argv + first + 2;
  out.environment = environ;
  return out;
}

/// The program itself: never returns.
[[noreturn]] void execute(const guard_order& order, int guard) {
  ::setpgid(0, 0);
  for (int number = 1; number <= SIGRTMAX; ++number) {
    ::signal(number, SIG_DFL); // SIGKILL and SIGSTOP refuse, which is right
  }
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (order.prepare != nullptr) {
    if (const char* why = order.prepare(order.context); why != nullptr) {
      std::fprintf(stderr, "cannot confine %s: %s: %s\n", order.path, why, std::strerror(errno));
      std::fflush(stderr);
      ::_exit(exit_cannot_execute);
    }
  }
  // Normally the guard ends it. This is for a guard that was itself killed from outside, perhaps
  // before this call (seen from its own namespace the guard is 1, and its end is ours).
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != guard) {
    ::_exit(exit_cannot_execute);
  }
  ::execve(order.path, order.argv, order.environment);
  std::fprintf(stderr, "cannot execute %s: %s\n", order.path, std::strerror(errno));
  std::fflush(stderr);
  ::_exit(exit_cannot_execute);
}

/// Leaves the guard with the life-line and the signal descriptor alone, so that the ends of pipes
/// and sockets given to the program close with it.
void drop_inherited(int lifeline, int signals) {
  const auto low = static_cast<unsigned>(std::min(lifeline, signals));
  const auto high = static_cast<unsigned>(std::max(lifeline, signals));
  if (low > 0) {
    ::close_range(0, low - 1, 0);
  }
  if (high > low + 1) {
    ::close_range(low + 1, high - 1, 0);
  }
  ::close_range(high + 1, ~0u, 0);
}

/// Reaps whatever has ended. True once the program is among it.
bool reap(int program, int& status) {
  bool ended = false;
  for (;;) {
    int piece = 0;
    int pid = ::waitpid(-1, &piece, WNOHANG);
    if (pid <= 0) {
      return ended;
    }
    if (pid == program) {
      status = piece;
      ended = true;
    }
  }
}

/// Without a namespace: kills every child that the kernel has given us, and theirs as they come.
void kill_all_children(int program, int& status) {
  for (;;) {
    ::kill(-program, SIGKILL);
    const auto own_pid = std::to_string(::getpid());
    unique_fd list{
        ::open(("/proc/self/task/" + own_pid + "/children").c_str(), O_RDONLY | O_CLOEXEC)};
    char text[4096];
    auto n = list ? ::read(list.get(), text, sizeof(text)) : 0;
    const char* at = text;
    const char* end = text + std::max<ssize_t>(n, 0);
    // A number cut off by the end of the buffer is another process: only whole ones count.
    while (at < end) {
      int pid = 0;
      auto [rest, error] = std::from_chars(at, end, pid);
      if (error != std::errc{} || rest == end || pid <= 1) {
        break;
      }
      ::kill(pid, SIGKILL);
      at = rest + 1;
    }
    int piece = 0;
    int pid = ::waitpid(-1, &piece, 0);
    if (pid < 0 && errno == ECHILD) {
      return;
    }
    if (pid == program) {
      status = piece;
    }
  }
}

void report(int lifeline, int status) {
  guard_report out{-1, -1};
  if (WIFEXITED(status)) {
    out.code = WEXITSTATUS(status);
  } else {
    out.signal = WTERMSIG(status);
  }
  // Nobody may be left to hear it.
  static_cast<void>(::send(lifeline, &out, sizeof(out), MSG_NOSIGNAL | MSG_DONTWAIT));
}

/// Waits for the end of the program or of the life-line.
int watch(const guard_order& order, int program, int signals) {
  int status = SIGKILL; // what waitpid says of a killed process
  bool ended = false;
  bool cut = false;
  while (!ended && !cut) {
    pollfd waits[2] = {{order.lifeline, POLLIN, 0}, {signals, POLLIN, 0}};
    if (::poll(waits, 2, -1) < 0) {
      cut = errno != EINTR;
      continue;
    }
    if (waits[1].revents != 0) {
      signalfd_siginfo info{};
      static_cast<void>(::read(signals, &info, sizeof(info)));
      ended = reap(program, status);
    }
    // Nothing is ever sent to us: whatever happens on the life-line means the end.
    cut = cut || waits[0].revents != 0;
  }
  if (!order.leads_namespace) {
    kill_all_children(program, status);
  }
  report(order.lifeline, status);
  return 0; // as the first process of the namespace: the kernel now kills all others in it
}

} // namespace

int run_guard(const guard_order& order) {
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  // A core file would be a copy of a guest's memory.
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  if (!order.leads_namespace) {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  }
  sigset_t child_signal;
  sigset_t all;
  sigemptyset(&child_signal);
  sigaddset(&child_signal, SIGCHLD);
  sigfillset(&all);
  ::signal(SIGCHLD, SIG_DFL); // ignored would mean: no status to wait for
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  unique_fd signals{::signalfd(-1, &child_signal, SFD_CLOEXEC | SFD_NONBLOCK)};
  if (!signals) {
    std::perror("guard: signalfd");
    return exit_cannot_execute;
  }
  const int guard = ::getpid();
  const int program = ::fork();
  if (program < 0) {
    std::perror("guard: fork");
    return exit_cannot_execute;
  }
  if (program == 0) {
    execute(order, guard);
  }
  ::setpgid(program, program); // both sides do it: whoever comes first
  drop_inherited(order.lifeline, signals.get());
  return watch(order, program, signals.get());
}

int guard_main(int argc, char** argv) {
  auto order = parse_order(argc, argv);
  if (!order || ::fcntl(order->lifeline, F_SETFD, FD_CLOEXEC) != 0) {
    std::fputs("guard is started by coppice itself, not by hand\n", stderr);
    return exit_usage;
  }
  // Not a return through main: nothing of the program around us may run now.
  ::_exit(run_guard(*order));
}

} // namespace coppice::vmm
