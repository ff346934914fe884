#define BOOST_TEST_MODULE vmm_child_process
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include "tests/vmm/pipe_ends.hpp"
#include "vmm/child_process.hpp"
#include "vmm/unique_fd.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <future>

using namespace coppice::vmm;

namespace {

constexpr std::chrono::seconds patience{20};
constexpr int patience_ms = 20'000;

struct guard_setup {
  guard_setup() {
    set_guard_program(GUARD_HOST);
  }
};

BOOST_TEST_GLOBAL_FIXTURE(guard_setup);

/// Reads until `until` is met or the end of file; fails the test when neither comes.
std::string read_until(int fd, const std::string& until) {
  std::string out;
  while (until.empty() || out.find(until) == std::string::npos) {
    pollfd wait{fd, POLLIN, 0};
    BOOST_REQUIRE_MESSAGE(::poll(&wait, 1, patience_ms) == 1, "nothing came after: " + out);
    char piece[4096];
    auto n = ::read(fd, piece, sizeof(piece));
    if (n <= 0) {
      break;
    }
    out.append(piece, static_cast<std::size_t>(n));
  }
  return out;
}

/// No process holds the other end of the pipe any more: asked without waiting.
bool is_at_end(int fd) {
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  char c = 0;
  return ::read(fd, &c, 1) == 0;
}

struct running {
  std::shared_ptr<child_process> process;
  std::future<child_exit> exit;
};

running start(event_loop& loop, child_options options) {
  auto ended = std::make_shared<std::promise<child_exit>>();
  auto exit = ended->get_future();
  auto process = child_process::start(
      loop, std::move(options), [ended](child_exit how) { ended->set_value(std::move(how)); });
  BOOST_REQUIRE_MESSAGE(process.has_value(),
                        (process.has_error() ? process.error().text : std::string{}));
  return {*process, std::move(exit)};
}

child_exit wait_for(std::future<child_exit>& exit) {
  BOOST_REQUIRE(exit.wait_for(patience) == std::future_status::ready);
  return exit.get();
}

child_exit run(child_options options) {
  event_loop loop;
  auto child = start(loop, std::move(options));
  return wait_for(child.exit);
}

child_options shell(const std::string& script) {
  child_options out;
  out.argv = {"/bin/sh", "-c", script};
  out.environment = {"PATH=/usr/bin:/bin"};
  return out;
}

// Starts a process that leaves session and process group, then goes on as told.
const std::string strayed = "setsid sleep 1000 & echo started; ";

/// The outcome of `guard_host run`, with its three standard streams as pipes.
struct host {
  explicit host(const std::vector<std::string>& arguments) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input.out.get(), 0);
    posix_spawn_file_actions_adddup2(&actions, output.in.get(), 1);
    posix_spawn_file_actions_adddup2(&actions, errors.in.get(), 2);
    std::vector<std::string> all{GUARD_HOST, "run"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (auto& a : all) {
      argv.push_back(a.data());
    }
    argv.push_back(nullptr);
    BOOST_REQUIRE(::posix_spawn(&pid, GUARD_HOST, &actions, nullptr, argv.data(), environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    input.out.reset();
    output.in.reset();
    errors.in.reset();
  }
  ~host() {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  pid_t pid = -1;
  pipe_ends input;
  pipe_ends output;
  pipe_ends errors;
};

const std::vector<std::vector<std::string>> rights{{}, {"unprivileged"}};

std::vector<std::string> host_arguments(const std::vector<std::string>& right,
                                        const std::string& script) {
  auto out = right;
  out.insert(out.end(), {"/bin/sh", "-c", "PATH=/usr/bin:/bin; " + script});
  return out;
}

} // namespace

namespace std {
ostream& operator<<(ostream& out, const vector<string>& strings) {
  for (const auto& s : strings) {
    out << s << ' ';
  }
  return out;
}
} // namespace std

BOOST_AUTO_TEST_CASE(exit_status_and_output_are_passed_on) {
  auto how = run(shell("echo out; echo err >&2; exit 7"));
  BOOST_TEST(how.code == 7);
  BOOST_TEST(how.signal == -1);
  BOOST_TEST(how.output == "out\nerr\n");
}

BOOST_AUTO_TEST_CASE(a_signal_is_told_from_a_status) {
  auto how = run(shell("kill -TERM $$"));
  BOOST_TEST(how.code == -1);
  BOOST_TEST(how.signal == SIGTERM);
}

BOOST_AUTO_TEST_CASE(signals_are_neither_blocked_nor_ignored_in_the_child) {
  ::signal(SIGPIPE, SIG_IGN);
  auto how = run(shell("grep -E '^Sig(Blk|Ign)' /proc/self/status"));
  ::signal(SIGPIPE, SIG_DFL);
  BOOST_TEST(how.output == "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

BOOST_AUTO_TEST_CASE(only_the_end_of_long_output_is_kept) {
  auto options = shell("seq 1 200000");
  options.output_bytes_max = 14;
  auto how = run(options);
  BOOST_TEST(how.code == 0);
  BOOST_TEST(how.output == "199999\n200000\n");
}

BOOST_AUTO_TEST_CASE(nothing_of_our_environment_reaches_the_child) {
  ::setenv("COPPICE_TEST_SECRET", "1", 1);
  child_options options;
  options.argv = {"/usr/bin/env"};
  options.environment = {"A=b", "C="};
  BOOST_TEST(run(options).output == "A=b\nC=\n");
}

BOOST_AUTO_TEST_CASE(exactly_the_listed_descriptors_reach_the_child) {
  // Neither of these may be seen, and one would be inherited by a plain exec.
  unique_fd leaking{::open("/dev/null", O_RDONLY)};
  unique_fd high{::fcntl(leaking.get(), F_DUPFD, 900)};
  pipe_ends data;
  child_options options;
  options.argv = {GUARD_HOST, "descriptors"};
  options.descriptors = {{data.out.get(), 9}, {data.in.get(), 5}};
  auto how = run(options);
  BOOST_TEST(how.output == "0 1 2 5 9 ");
  BOOST_TEST(::fcntl(data.out.get(), F_GETFD) >= 0); // ours stay open
}

BOOST_AUTO_TEST_CASE(descriptors_may_trade_their_numbers) {
  pipe_ends first;
  pipe_ends second;
  auto options = shell("");
  options.argv.back() = "echo to-first >&" + std::to_string(second.in.get()) +
                        "; echo to-second >&" + std::to_string(first.in.get());
  options.descriptors = {{first.in.get(), second.in.get()}, {second.in.get(), first.in.get()}};
  BOOST_TEST(run(options).code == 0);
  first.in.reset();
  second.in.reset();
  BOOST_TEST(read_until(first.out.get(), "") == "to-first\n");
  BOOST_TEST(read_until(second.out.get(), "") == "to-second\n");
}

BOOST_AUTO_TEST_CASE(a_listed_standard_output_is_not_kept_here) {
  pipe_ends data;
  auto options = shell("echo there; echo here >&2");
  options.descriptors = {{data.in.get(), 1}};
  BOOST_TEST(run(options).output == "here\n");
  data.in.reset();
  BOOST_TEST(read_until(data.out.get(), "") == "there\n");
}

BOOST_AUTO_TEST_CASE(what_cannot_start_says_why) {
  event_loop loop;
  auto reason = [&](child_options options) {
    auto out = child_process::start(loop, std::move(options), [](child_exit) {});
    BOOST_REQUIRE(!out);
    BOOST_TEST((out.error().code == ec::spawn));
    return out.error().text;
  };
  child_options missing;
  missing.argv = {"/nonexistent/program"};
  BOOST_TEST(reason(missing) == "program /nonexistent/program: No such file or directory");
  missing.argv = {"no-such-program-anywhere"};
  BOOST_TEST(reason(missing).find("no-such-program-anywhere: not found in /") != std::string::npos);
  missing.argv = {"/etc/passwd"};
  BOOST_TEST(reason(missing) == "program /etc/passwd: Permission denied");
  auto nowhere = shell("true");
  nowhere.working_dir = "/nonexistent";
  BOOST_TEST(reason(nowhere).find("working directory /nonexistent: No such file") !=
             std::string::npos);
  auto twice = shell("true");
  twice.descriptors = {{0, 7}, {1, 7}};
  BOOST_TEST(reason(twice).find("given twice") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(what_the_kernel_refuses_to_execute_ends_with_127) {
  char path[] = "/tmp/coppice-no-program-XXXXXX";
  unique_fd file{::mkstemp(path)};
  BOOST_REQUIRE(file);
  BOOST_REQUIRE(::fchmod(file.get(), 0755) == 0);
  BOOST_REQUIRE(::write(file.get(), "\x01\x02", 2) == 2);
  file.reset();
  child_options options;
  options.argv = {path};
  auto how = run(options);
  ::unlink(path);
  BOOST_TEST(how.code == 127);
  BOOST_TEST(how.output.find("Exec format error") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(kill_ends_everything_that_the_child_started) {
  event_loop loop;
  pipe_ends data;
  auto options = shell(strayed + "sleep 1000");
  options.descriptors = {{data.in.get(), 1}};
  auto child = start(loop, options);
  data.in.reset();
  read_until(data.out.get(), "started\n");
  child.process->kill();
  child.process->kill();
  auto how = wait_for(child.exit);
  BOOST_TEST(is_at_end(data.out.get()));
  BOOST_TEST(how.signal == SIGKILL);
  child.process->kill(); // long gone: harmless
}

BOOST_AUTO_TEST_CASE(destroying_the_handle_ends_everything) {
  event_loop loop;
  pipe_ends data;
  auto options = shell(strayed + "sleep 1000");
  options.descriptors = {{data.in.get(), 1}};
  auto child = start(loop, options);
  data.in.reset();
  read_until(data.out.get(), "started\n");
  child.process.reset();
  wait_for(child.exit);
  BOOST_TEST(is_at_end(data.out.get()));
}

BOOST_AUTO_TEST_CASE(a_loop_that_ends_with_a_child_in_flight_leaves_no_process) {
  pipe_ends data;
  {
    auto loop = std::make_unique<event_loop>();
    auto options = shell(strayed + "sleep 1000");
    options.descriptors = {{data.in.get(), 1}};
    auto child = start(*loop, options);
    data.in.reset();
    read_until(data.out.get(), "started\n");
    child.process.reset();
    loop.reset();
  }
  BOOST_TEST(is_at_end(data.out.get()));
}

BOOST_DATA_TEST_CASE(the_end_of_the_program_ends_what_it_left_behind, rights) {
  host h{host_arguments(sample, strayed + "exit 3")};
  BOOST_TEST(read_until(h.errors.out.get(), "3 -1\n").find("3 -1\n") != std::string::npos);
  read_until(h.output.out.get(), "started\n");
  BOOST_TEST(is_at_end(h.output.out.get()));
}

BOOST_DATA_TEST_CASE(a_killed_child_takes_its_descendants_along, rights) {
  host h{host_arguments(sample, strayed + "sleep 1000")};
  read_until(h.output.out.get(), "started\n");
  BOOST_REQUIRE(::write(h.input.in.get(), "k", 1) == 1);
  BOOST_TEST(read_until(h.errors.out.get(), "-1 9\n").find("-1 9\n") != std::string::npos);
  BOOST_TEST(is_at_end(h.output.out.get()));
}

BOOST_DATA_TEST_CASE(nothing_outlives_a_parent_killed_with_9, rights) {
  host h{host_arguments(sample, strayed + "sleep 1000")};
  read_until(h.output.out.get(), "started\n");
  BOOST_REQUIRE(::kill(h.pid, SIGKILL) == 0);
  BOOST_TEST(read_until(h.output.out.get(), "") == "");
}

BOOST_DATA_TEST_CASE(a_guard_killed_from_outside_takes_the_program_along, rights) {
  // Without a namespace only the program itself is promised to go in this case.
  host h{host_arguments(sample, "echo started; exec sleep 1000")};
  read_until(h.output.out.get(), "started\n");
  const auto said = read_until(h.errors.out.get(), "\n");
  const int guard = std::stoi(said.substr(std::string{"guard "}.size()));
  BOOST_REQUIRE(::kill(guard, SIGKILL) == 0);
  BOOST_TEST(read_until(h.output.out.get(), "") == "");
  BOOST_TEST(read_until(h.errors.out.get(), "-1 9\n").find("-1 9\n") != std::string::npos);
}
