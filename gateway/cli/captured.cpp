#include "gateway/cli/captured.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>

namespace coppice::cli {
namespace {

constexpr std::size_t output_bytes_max = 64u << 10;

int milliseconds_until(std::chrono::steady_clock::time_point deadline) {
  // Rounded up: a wait that ends early would look like one that succeeded.
  auto left =
      std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::max<std::int64_t>(left.count(), 0));
}

/// Reads until the end, the deadline, or an error; beyond the limit it reads on and drops.
void read_all(int fd, std::string& output, std::chrono::steady_clock::time_point deadline) {
  std::array<char, 4096> buffer{};
  while (true) {
    pollfd waiting{fd, POLLIN, 0};
    if (::poll(&waiting, 1, milliseconds_until(deadline)) <= 0) {
      return;
    }
    auto count = ::read(fd, buffer.data(), buffer.size());
    if (count <= 0) {
      return;
    }
    auto room = output_bytes_max - output.size();
    output.append(buffer.data(), std::min(room, static_cast<std::size_t>(count)));
  }
}

/// Waits for the end of a child until the deadline, then kills it; gives its wait status.
int reap(pid_t pid, std::chrono::steady_clock::time_point deadline) {
  // The C library declares its wrapper without C linkage.
  auto pidfd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  pollfd waiting{pidfd, POLLIN, 0};
  if (pidfd < 0 || ::poll(&waiting, 1, milliseconds_until(deadline)) <= 0) {
    ::kill(pid, SIGKILL);
  }
  if (pidfd >= 0) {
    ::close(pidfd);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    // nop
  }
  return status;
}

} // namespace

captured_run capture(const std::vector<std::string>& argv, std::chrono::milliseconds deadline) {
  captured_run run;
  std::array<int, 2> pipe_ends{};
  if (::pipe2(pipe_ends.data(), O_CLOEXEC) != 0) {
    run.output = std::strerror(errno);
    return run;
  }
  std::vector<char*> arguments;
  for (const auto& a : argv) {
    arguments.push_back(const_cast<char*>(a.c_str()));
  }
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], 1);
  posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], 2);
  pid_t pid = -1;
  int error = ::posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(pipe_ends[1]);
  if (error != 0) {
    run.output = std::strerror(error);
  } else {
    auto end = std::chrono::steady_clock::now() + deadline;
    read_all(pipe_ends[0], run.output, end);
    auto status = reap(pid, end);
    run.was_started = true;
    run.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  ::close(pipe_ends[0]);
  return run;
}

} // namespace coppice::cli
