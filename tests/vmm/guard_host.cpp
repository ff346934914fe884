#include "vmm/child_process.hpp"
#include "vmm/launcher.hpp"

#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <string_view>
#include <thread>

/// Plays the daemon for tests of child_process.
///
///   guard_host guard …                        the guard itself
///   guard_host descriptors                    prints the numbers of its open descriptors
///   guard_host run [unprivileged] PROGRAM …   runs PROGRAM guarded, its output on our own; prints
///                                             "guard PID" on stderr at the start, "CODE SIGNAL" at
///                                             the end; a byte on stdin kills it
///   guard_host launcher …                     the launcher itself
///   guard_host run-jailed                     starts `inspect-worker stray` in a jail, as a thread
///                                             that then ends; its output on our own
///   guard_host inspect-worker|import-worker WHAT …  plays the jailed program:
///     look            prints what it sees and may do
///     write FILE      writes into FILE
///     read FILE       prints FILE
///     stray           leaves a process of another session behind, prints "started", waits
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

int run_jailed() {
  using namespace coppice::vmm;
  launcher_config config;
  const auto program = std::filesystem::read_symlink("/proc/self/exe").string();
  config.contents.programs[static_cast<std::size_t>(child_kind::inspect_worker)] = program;
  config.uid_first = 1'800'000'000;
  config.uid_count = 4;
  auto jailer = launcher::start(config, program);
  if (!jailer) {
    std::fprintf(stderr, "%s\n", jailer.error().text.c_str());
    return 1;
  }
  event_loop loop{*jailer};
  std::shared_ptr<child_process> child;
  std::thread asking{[&] {
    child_options options;
    options.kind = child_kind::inspect_worker;
    options.argv = {program, "inspect-worker", "stray"};
    options.descriptors = {{STDOUT_FILENO, STDOUT_FILENO}};
    auto started = child_process::start(loop, options, [](const child_exit&) {});
    if (started) {
      child = std::move(*started);
    }
  }};
  asking.join();
  ::close(STDOUT_FILENO);
  std::fprintf(stderr, "asked\n");
  for (;;) {
    ::pause();
  }
}

void print_list(const char* name, const std::filesystem::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator{folder, error}) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  std::printf("%s:", name);
  for (const auto& n : names) {
    std::printf(" %s", n.c_str());
  }
  std::printf("\n");
}

void print_attempt(const char* name, bool is_done) {
  std::printf("%s: %s\n", name, is_done ? "yes" : std::strerror(errno));
}

int look() {
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);) {
    std::printf("%s\n", line.c_str());
  }
  status.close();
  print_list("root", "/");
  print_list("dev", "/dev");
  print_list("etc", "/etc");
  print_list("proc", "/proc");
  print_list("scratch", "/scratch");
  print_list("layout", "/layout");
  std::printf("network:");
  auto* interfaces = ::if_nameindex();
  for (auto* i = interfaces; i != nullptr && i->if_index != 0; ++i) {
    std::printf(" %s", i->if_name);
  }
  std::array<char, 64> host{};
  ::gethostname(host.data(), host.size() - 1);
  std::printf("\nhost: %s\nenvironment:", host.data());
  for (char** variable = environ; *variable != nullptr; ++variable) {
    std::printf(" %s", *variable);
  }
  rlimit files{};
  rlimit core{};
  ::getrlimit(RLIMIT_FSIZE, &files);
  ::getrlimit(RLIMIT_CORE, &core);
  std::printf("\nlimits: %llu %llu\n", static_cast<unsigned long long>(files.rlim_max),
              static_cast<unsigned long long>(core.rlim_max));
  print_attempt("namespace", ::unshare(CLONE_NEWUSER) == 0);
  print_attempt("root user", ::setuid(0) == 0);
  print_attempt("write to root", ::open("/file", O_WRONLY | O_CREAT, 0600) >= 0);
  print_attempt("write to the program", ::open("/coppice", O_WRONLY) >= 0);
  ::kill(1, SIGKILL); // if this did anything, nothing would follow
  print_attempt("read the guard", ::open("/proc/1/environ", O_RDONLY) >= 0);
  print_attempt("see the host's first process", ::kill(2'000'000, 0) == 0);
  std::printf("descriptors: ");
  return print_descriptors();
}

int play_worker(const std::vector<std::string>& arguments) {
  const auto what = arguments.empty() ? std::string{} : arguments.front();
  if (what == "look") {
    return look();
  }
  if (what == "write" && arguments.size() == 2) {
    std::ofstream out{arguments[1]};
    out << "written";
    out.close();
    return out ? 0 : 1;
  }
  if (what == "read" && arguments.size() == 2) {
    std::ifstream in{arguments[1]};
    std::string text;
    std::getline(in, text);
    std::printf("%s", text.c_str());
    return in || in.eof() ? 0 : 1;
  }
  if (what == "stray") {
    if (::fork() == 0) {
      ::setsid();
    } else {
      std::printf("started\n");
      std::fflush(stdout);
    }
    for (;;) {
      ::pause();
    }
  }
  return 2;
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
  if (what == coppice::vmm::launcher_command) {
    return coppice::vmm::launcher_main(argc, argv);
  }
  if (what == "run-jailed") {
    return run_jailed();
  }
  if (what == "inspect-worker" || what == "import-worker") {
    return play_worker({argv + 2, argv + argc});
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
