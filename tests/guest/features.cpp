#include "tests/guest/feature.hpp"

#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

// features [NAME...]: a line for each feature, `ok NAME` or `missing NAME: why`; the exit code is 1
// when something is missing.

namespace {

constexpr unsigned check_seconds_max = 30;

std::string outcome_of(const features::feature& one) {
  int ends[2];
  if (::pipe(ends) < 0) {
    return features::failed("pipe");
  }
  const auto child = ::fork();
  if (child == 0) {
    ::alarm(check_seconds_max);
    const auto why = one.check(one.what);
    const auto size = static_cast<ssize_t>(why.size());
    ::_exit(::write(ends[1], why.data(), why.size()) == size && why.empty() ? 0 : 1);
  }
  ::close(ends[1]);
  std::string why;
  char piece[256];
  for (ssize_t got = 0; (got = ::read(ends[0], piece, sizeof(piece))) > 0;) {
    why.append(piece, static_cast<std::size_t>(got));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) {
    return "ended by signal " + std::to_string(WTERMSIG(status));
  }
  return status != 0 && why.empty() ? "ended with " + std::to_string(WEXITSTATUS(status)) : why;
}

bool is_wanted(const std::string& name, int argc, char** argv) {
  bool is_listed = argc < 2;
  for (int i = 1; i < argc; ++i) {
    is_listed = is_listed || name == argv[i];
  }
  return is_listed;
}

} // namespace

int main(int argc, char** argv) {
  std::vector<features::feature> all;
  features::add_system_calls(all);
  features::add_processes(all);
  features::add_files(all);
  features::add_sockets(all);
  features::add_packet_filters(all);
  utsname kernel{};
  ::uname(&kernel);
  std::printf("kernel %s, %ld cpus\n", kernel.release, ::sysconf(_SC_NPROCESSORS_ONLN));
  bool is_whole = true;
  for (const auto& one : all) {
    if (!is_wanted(one.name, argc, argv)) {
      continue;
    }
    std::fflush(stdout);
    const auto why = outcome_of(one);
    is_whole = is_whole && why.empty();
    std::printf(why.empty() ? "ok %s\n" : "missing %s: %s\n", one.name.c_str(), why.c_str());
  }
  std::printf("end\n");
  return is_whole ? 0 : 1;
}
