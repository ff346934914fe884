#include "vmm/agent/warm_up.hpp"

#include "vmm/agent/descriptor.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace coppice::agent {

namespace {

constexpr const char* shell = "/bin/sh";
constexpr const char* child_name = "true";
constexpr const char* file = "/warm";
constexpr std::string_view said = "warm\n";

bool write_to(int fd) {
  return ::write(fd, said.data(), said.size()) == static_cast<ssize_t>(said.size());
}

bool use_files() {
  char back[16];
  descriptor made{::open(file, O_RDWR | O_CREAT | O_APPEND, 0644)};
  struct stat st {};
  if (!made || !write_to(made.get()) || ::fstat(made.get(), &st) < 0 ||
      ::pread(made.get(), back, sizeof(back), 0) != static_cast<ssize_t>(said.size()) ||
      ::stat("/nothing", &st) == 0) {
    return false;
  }
  if (auto* folder = ::opendir("/")) {
    while (::readdir(folder) != nullptr) {
    }
    ::closedir(folder);
  }
  return true;
}

bool use_memory() {
  constexpr std::size_t bytes = 64u << 10;
  auto* some = static_cast<char*>(
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (some == MAP_FAILED) {
    return false;
  }
  some[0] = 1;
  return ::munmap(some, bytes) == 0;
}

bool use_processes() {
  int ends[2];
  if (::pipe(ends) < 0) {
    return false;
  }
  const auto child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::execl(shell, child_name, nullptr);
    ::_exit(1);
  }
  ::close(ends[1]);
  char heard[16];
  const auto got = ::read(ends[0], heard, sizeof(heard));
  ::close(ends[0]);
  int status = 0;
  return child > 0 && ::waitpid(child, &status, 0) == child && status == 0 &&
         got == static_cast<ssize_t>(said.size());
}

} // namespace

std::optional<int> warm_up(std::string_view name) {
  if (name == child_name) {
    return write_to(STDOUT_FILENO) ? 0 : 1;
  }
  if (name == shell) {
    return use_files() && use_memory() && use_processes() && write_to(STDOUT_FILENO) ? 0 : 1;
  }
  return std::nullopt;
}

} // namespace coppice::agent
