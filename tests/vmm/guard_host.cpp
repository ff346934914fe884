#include "vmm/child_process.hpp"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <future>
#include <string_view>

/// Plays the daemon for tests of child_process.
///
///   guard_host guard …                        the guard itself
///   guard_host descriptors                    prints the numbers of its open descriptors
///   guard_host run [unprivileged] PROGRAM …   runs PROGRAM guarded, its output on our own; prints
///                                             "guard PID" on stderr at the start, "CODE SIGNAL" at
///                                             the end; a byte on stdin kills it
namespace {

int print_descriptors() {
  for (int number = 0; number < 1024; ++number) {
    if (::fcntl(number, F_GETFD) >= 0) {
      std::printf("%d ", number);
    }
  }
  std::fflush(stdout);
  return 0;
}

int run(std::vector<std::string> argv) {
  using namespace coppice::vmm;
  event_loop loop;
  std::promise<child_exit> ended;
  child_options options;
  options.argv = std::move(argv);
  options.descriptors = {{STDOUT_FILENO, STDOUT_FILENO}};
  auto child =
      child_process::start(loop, options, [&](child_exit how) { ended.set_value(std::move(how)); });
  if (!child) {
    std::fprintf(stderr, "%s\n", child.error().text.c_str());
    return 1;
  }
  // Only the child holds the test's pipe now: its end of file tells that the child is gone.
  ::close(STDOUT_FILENO);
  std::fprintf(stderr, "guard %d\n", (*child)->pid());
  auto end = ended.get_future();
  for (bool asked = false;
       end.wait_for(std::chrono::milliseconds{20}) != std::future_status::ready;) {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    if (!asked && ::poll(&input, 1, 0) > 0 && (input.revents & POLLIN) != 0) {
      asked = true;
      (*child)->kill();
    }
  }
  const auto how = end.get();
  std::fprintf(stderr, "%d %d\n", how.code, how.signal);
  return 0;
}

bool drop_privileges() {
  constexpr unsigned nobody = 65534;
  return ::geteuid() != 0 ||
         (::setgroups(0, nullptr) == 0 && ::setgid(nobody) == 0 && ::setuid(nobody) == 0);
}

} // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "guard") {
    return coppice::vmm::guard_main(argc, argv);
  }
  if (what == "descriptors") {
    return print_descriptors();
  }
  if (what == "run") {
    int first = 2;
    if (argc > 2 && std::string_view{argv[2]} == "unprivileged") {
      first = 3;
      if (!drop_privileges()) {
        return 1;
      }
    }
    return run({argv + first, argv + argc});
  }
  return 2;
}
