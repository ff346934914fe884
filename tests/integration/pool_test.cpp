#define BOOST_TEST_MODULE pool
#include "tests/integration/node.hpp"
#include "tests/integration/processes.hpp"

#include <boost/test/unit_test.hpp>

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <set>
#include <string>
#include <thread>
#include <vector>

using namespace coppice::test;

namespace {

std::string way_of(const boost::json::object& operation) {
  auto name = operation.at("metrics").at("vm_start").as_string();
  return {name.data(), name.size()};
}

/// Stops one thread of a QEMU, as a debugger would, until the end of this.
class halted_processor {
public:
  explicit halted_processor(pid_t qemu) {
    // Threads have no names of their own; the one that has worked most is the processor.
    long most = 0;
    for (const auto& thread : entries_of(proc(qemu) / "task")) {
      const auto times = text_of(proc(qemu) / "task" / thread / "schedstat"); // nanoseconds first
      const auto number = static_cast<pid_t>(std::stol(thread));
      if (const auto spent = std::atol(times.c_str()); number != qemu && spent > most) {
        most = spent;
        thread_ = number;
      }
    }
    BOOST_REQUIRE(thread_ != 0);
    BOOST_REQUIRE(::ptrace(PTRACE_SEIZE, thread_, nullptr, nullptr) == 0);
    BOOST_REQUIRE(::ptrace(PTRACE_INTERRUPT, thread_, nullptr, nullptr) == 0);
    int status = 0;
    BOOST_REQUIRE(::waitpid(thread_, &status, __WALL) == thread_);
    BOOST_REQUIRE(WIFSTOPPED(status));
    // When QEMU is killed its end waits for the debugger to hear of this thread's.
    reaper_ = std::thread{[this] {
      int ignored = 0;
      while (!is_over_ && ::waitpid(thread_, &ignored, WNOHANG | __WALL) == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
      }
    }};
  }
  ~halted_processor() {
    is_over_ = true;
    reaper_.join();
    ::ptrace(PTRACE_DETACH, thread_, nullptr, nullptr);
  }
  halted_processor(const halted_processor&) = delete;
  halted_processor& operator=(const halted_processor&) = delete;

private:
  pid_t thread_ = 0;
  std::atomic<bool> is_over_{false};
  std::thread reaper_;
};

/// So many VMs have come to wait since the start.
void wait_for_waiting(const node& server, std::size_t count) {
  eventually(std::to_string(count) + " VMs have come to wait",
             [&] { return count_of(server.log(), "\"a vm waits\"") >= count; });
}

const std::vector<std::string> one_waits{"--pool.floor=1", "--pool.ceiling=1", "--log.level=debug"};

} // namespace

BOOST_AUTO_TEST_CASE(a_run_takes_the_vm_that_waits_and_another_takes_its_place) {
  state_folder folder;
  node server{folder.path(), one_waits};
  auto base = server.import_busybox();
  std::string image = base;
  for (int i = 0; i < 5; ++i) {
    wait_for_waiting(server, static_cast<std::size_t>(i) + 1);
    auto done = server.shell(image, "echo " + std::to_string(i) + " >> /root/log; cat /root/log");
    BOOST_TEST(status_of(done) == "SUCCESS");
    BOOST_TEST(way_of(done) == "pool");
    image = result_image_of(done);
    BOOST_TEST(stdout_of(done).size() == static_cast<std::size_t>(2 * (i + 1)));
  }
  BOOST_TEST(server.stop() == 0);
  BOOST_TEST(overlays_in(folder.path()) == 0u);
}

BOOST_AUTO_TEST_CASE(siblings_share_nothing_that_must_be_unique) {
  state_folder folder;
  node server{folder.path(), {"--pool.ceiling=3", "--log.level=debug"}};
  auto base = server.import_busybox();
  wait_for_waiting(server, 1);
  std::vector<std::string> operations;
  for (int i = 0; i < 8; ++i) {
    operations.push_back(server.spawn(
        {{"command", "head -c 16 /dev/urandom | sha256sum; cat /proc/sys/kernel/random/uuid;"
                     "cat /proc/sys/kernel/random/boot_id; mktemp -u; date +%s"},
         {"shell", true},
         {"image", base}}));
  }
  std::set<std::string> seen;
  for (const auto& operation : operations) {
    auto words = lines_of(stdout_of(server.wait(operation)));
    BOOST_REQUIRE(words.size() == 5u);
    for (std::size_t i = 0; i < 4; ++i) {
      BOOST_TEST(seen.insert(words[i]).second, words[i] << " was seen before");
    }
    const auto off = std::stoll(words[4]) - static_cast<long long>(::time(nullptr));
    BOOST_TEST(off <= 1);
    BOOST_TEST(off > -60);
  }
}

BOOST_AUTO_TEST_CASE(a_vm_that_is_killed_or_stopped_while_it_waits_is_replaced_unnoticed) {
  state_folder folder;
  node server{folder.path(), one_waits};
  auto base = server.import_busybox();
  std::size_t waited = 0;
  for (int signal : {SIGKILL, SIGSTOP}) {
    wait_for_waiting(server, ++waited);
    eventually("only that one is there", [&] { return qemus_of(server.pid()).size() == 1; });
    auto waiting = qemus_of(server.pid()).begin()->first;
    BOOST_REQUIRE(::kill(waiting, signal) == 0);
    auto done = server.shell(base, "echo fine");
    BOOST_TEST(status_of(done) == "SUCCESS");
    BOOST_TEST(stdout_of(done) == "fine\n");
    wait_for_waiting(server, waited + 1);
    eventually("it is gone", [&] { return ::kill(waiting, 0) != 0; });
  }
}

BOOST_AUTO_TEST_CASE(a_vm_that_was_wedged_while_it_waited_is_replaced_unnoticed) {
  state_folder folder;
  node server{folder.path(), one_waits};
  auto base = server.import_busybox();
  wait_for_waiting(server, 1);
  const auto waiting = qemus_of(server.pid()).begin()->first;
  // QEMU answers, and the guest never goes on: the thread of its processor stands still.
  const halted_processor wedge{waiting};
  auto done = server.shell(base, "echo fine");
  BOOST_TEST(status_of(done) == "SUCCESS", error_of(done));
  BOOST_TEST(stdout_of(done) == "fine\n");
  BOOST_TEST(count_of(server.log(), "its agent did not answer") == 1u);
  eventually("it is gone", [&] { return !is_alive(waiting); });
}

BOOST_AUTO_TEST_CASE(what_waits_dies_with_the_daemon) {
  state_folder folder;
  node server{folder.path(), {"--pool.floor=2", "--pool.ceiling=2", "--log.level=debug"}};
  wait_for_waiting(server, 2);
  auto processes = descendants_of(server.pid());
  server.kill();
  eventually("all is gone", [&] {
    return std::none_of(processes.begin(), processes.end(),
                        [](pid_t pid) { return ::kill(pid, 0) == 0; });
  });
}
