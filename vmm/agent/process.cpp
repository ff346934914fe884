#include "vmm/agent/process.hpp"

#include <optional>

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>

namespace coppice::agent {
namespace {

/// Between fork and exec stands one read of an executable; past this the child is taken as started.
constexpr int exec_wait_ms = 30'000;
constexpr int not_executable = 126;
constexpr int not_found = 127;

struct pipe_ends {
  descriptor read;
  descriptor write;
};

result<pipe_ends> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) < 0) {
    return last_error("making a pipe");
  }
  return pipe_ends{descriptor{fds[0]}, descriptor{fds[1]}};
}

void make_non_blocking(const descriptor& fd) {
  ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
}

/// What the child says when it could not become the process, before that that its folder is no
/// folder.
struct exec_report {
  enum step_kind { folder, prepare, execute, interpreter } step;
  int number;
};

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  out.reserve(strings.size() + 1);
  for (auto& s : strings) {
    out.push_back(const_cast<char*>(s.c_str()));
  }
  out.push_back(nullptr);
  return out;
}

void reset_signals() {
  struct sigaction plain {};
  plain.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) {
    ::sigaction(number, &plain, nullptr);
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

void say(int report_to, const exec_report& report) {
  static_cast<void>(::write(report_to, &report, sizeof(report)) < 0);
}

bool enter(const process_plan& plan, int in, int out, int err, int report_to) {
  ::setsid();
  ::umask(022);
  if (::dup2(in, 0) < 0 || ::dup2(out, 1) < 0 || ::dup2(err, 2) < 0 || ::fchdir(plan.root) < 0 ||
      ::chroot(".") < 0) {
    return false;
  }
  // The report's pipe stays open until exec, nothing stays open after it.
  if (::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) < 0) {
    return false;
  }
  // Folder first: root may enter where the user may not, as container runtimes have it. Only here
  // is it looked at: its mount may be one that the run has made, and that never answers.
  if (::chdir(plan.cwd.c_str()) < 0) {
    say(report_to, {exec_report::folder, errno});
    if (::chdir("/") < 0) {
      return false;
    }
  }
  return ::setgroups(plan.who.groups.size(), plan.who.groups.data()) == 0 &&
         ::setresgid(plan.who.gid, plan.who.gid, plan.who.gid) == 0 &&
         ::setresuid(plan.who.uid, plan.who.uid, plan.who.uid) == 0;
}

/// As execvp, but in the plan's environment and without its guess that a file of an unknown format
/// is a shell script.
exec_report execute(const process_plan& plan) {
  auto argv = pointers(plan.command.argv);
  auto environment = pointers(plan.command.environment);
  exec_report report{exec_report::execute, ENOENT};
  for (auto& file : plan.command.candidates) {
    ::execve(file.c_str(), argv.data(), environment.data());
    if (errno == ENOENT || errno == ENOTDIR) {
      if (::access(file.c_str(), F_OK) == 0) {
        return {exec_report::interpreter, ENOENT};
      }
    } else if (errno == EACCES) {
      report.number = EACCES;
    } else {
      return {exec_report::execute, errno};
    }
  }
  return report;
}

/// As much of a name as a file can have: the text has to fit one output message.
std::string shown(const std::string& name) {
  return name.size() <= PATH_MAX ? name : name.substr(0, PATH_MAX) + "...";
}

std::string refusal_text(const exec_report& report, const std::string& name) {
  auto begin = "coppice: " + (name.empty() ? std::string{"the command is empty"} : shown(name));
  if (name.empty()) {
    return begin + "\n";
  }
  if (report.step == exec_report::interpreter) {
    return begin + ": its interpreter or loader was not found\n";
  }
  if (report.number == ENOENT) {
    return begin + ": not found\n";
  }
  if (report.number == EACCES) {
    return begin + ": permission denied\n";
  }
  return begin + ": " + std::strerror(report.number) + "\n";
}

[[noreturn]] void run_child(const process_plan& plan, int in, int out, int err, int report_to) {
  reset_signals();
  exec_report report{exec_report::prepare, 0};
  if (enter(plan, in, out, err, report_to)) {
    report = execute(plan);
  } else {
    report.number = errno;
  }
  say(report_to, report);
  ::_exit(report.number == ENOENT ? not_found : not_executable);
}

/// The child's next report; none: it has become the process, or takes very long.
std::optional<exec_report> await_report(const descriptor& from) {
  pollfd waiting{from.get(), POLLIN, 0};
  exec_report report{};
  if (::poll(&waiting, 1, exec_wait_ms) == 1 &&
      ::read(from.get(), &report, sizeof(report)) == sizeof(report)) {
    return report;
  }
  return std::nullopt;
}

} // namespace

result<child> start_process(const process_plan& plan) {
  auto in = make_pipe();
  auto out = make_pipe();
  auto err = make_pipe();
  auto report_pipe = make_pipe();
  if (!in || !out || !err || !report_pipe) {
    return errno_failure(EMFILE, "making the process's pipes");
  }
  auto pid = ::fork();
  if (pid < 0) {
    return last_error("starting a process");
  }
  if (pid == 0) {
    run_child(plan, in->read.get(), out->write.get(), err->write.get(), report_pipe->write.get());
  }
  report_pipe->write.reset();
  child started;
  started.pid = pid;
  started.cwd = plan.cwd;
  started.input = std::move(in->write);
  started.output = std::move(out->read);
  started.errors = std::move(err->read);
  for (auto* fd : {&started.input, &started.output, &started.errors}) {
    make_non_blocking(*fd);
  }
  while (auto report = await_report(report_pipe->read)) {
    switch (report->step) {
    case exec_report::folder:
      started.cwd = "/";
      continue;
    case exec_report::prepare:
      return errno_failure(report->number, "preparing the process");
    case exec_report::execute:
    case exec_report::interpreter:
      started.refusal = refusal_text(*report, plan.command.argv.front());
      continue;
    }
  }
  return started;
}

} // namespace coppice::agent
