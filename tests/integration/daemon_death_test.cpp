#define BOOST_TEST_MODULE daemon_death
#include "tests/integration/node.hpp"
#include "tests/integration/processes.hpp"

#include <boost/test/unit_test.hpp>

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>
#include <thread>
#include <vector>

// Whatever the VMs of a daemon are at when it is killed, they end with it.

using namespace coppice::test;

namespace {

const bool is_full = std::getenv("COPPICE_TEST_FULL") != nullptr;

// Of each, so that there are twenty.
constexpr std::size_t waiting = 6; ///< of the usual class
constexpr std::size_t running = 8; ///< of one that is never asked for often enough to have any wait
constexpr std::size_t restored = 3; ///< the same, begun just now
constexpr std::size_t booting = 3;  ///< of one that has no template yet
constexpr std::size_t writing = 3;  ///< takes some of those that wait

using clock_type = std::chrono::steady_clock;

boost::json::object endless_run(const std::string& image, int memory_mib) {
  return {{"command", "sleep 1000"},
          {"shell", true},
          {"image", image},
          {"resources", boost::json::object{{"cpus", 1}, {"memory_mb", memory_mib}}}};
}

/// Leaves something to be sealed.
boost::json::object sealed_run(const std::string& image) {
  return {{"command", "dd if=/dev/urandom of=/root/f bs=1M count=16 2>/dev/null"},
          {"shell", true},
          {"image", image}};
}

void wait_for_line(const node& server, const std::string& text, std::size_t count) {
  eventually(std::to_string(count) + " times " + text,
             [&] { return count_of(server.log(), text) >= count; });
}

/// Brings VMs to all stages.
void fill_up(const node& server, const std::string& base, int memory_mib, int new_memory_mib) {
  for (std::size_t next = 1; next <= waiting; ++next) {
    wait_for_line(server, "\"a vm waits\"", next);
  }
  std::vector<std::string> operations;
  for (std::size_t i = 0; i < running; ++i) {
    operations.push_back(server.spawn(endless_run(base, memory_mib)));
    if (i == 0) { // which asks for its template
      eventually("there are two templates", [&] {
        const auto log = server.log();
        return count_of(log, "\"template made\"") + count_of(log, "\"template loaded\"") >= 2;
      });
    }
  }
  for (const auto& operation : operations) {
    server.wait_for(operation, {"EXECUTING"});
  }
  for (std::size_t i = 0; i < booting; ++i) {
    server.spawn(endless_run(base, new_memory_mib));
  }
  for (std::size_t i = 0; i < writing; ++i) {
    server.spawn(sealed_run(base));
  }
  for (std::size_t i = 0; i < restored; ++i) {
    server.spawn(endless_run(base, memory_mib));
  }
  eventually("twenty VMs are there", [&] { return qemus_of(server.pid()).size() >= 20; });
}

/// Kills a daemon whose VMs are at everything at once. Gives how long the last one lived on.
std::chrono::milliseconds kill_at_work(const state_folder& folder, const std::string& base,
                                       int round, std::minstd_rand& random) {
  constexpr int memory_mib = 512;
  const int new_memory_mib = 768 + 16 * round;
  node server{folder.path(),
              {"--vm.running_max=20", "--vm.cpus_max=20", "--vm.accelerator=tcg",
               "--vm.classes=1:512,1:" + std::to_string(new_memory_mib),
               "--pool.floor=" + std::to_string(waiting),
               "--pool.ceiling=" + std::to_string(waiting), "--log.level=debug"}};
  fill_up(server, base, memory_mib, new_memory_mib);
  // Any moment of theirs.
  std::this_thread::sleep_for(std::chrono::milliseconds{random() % 1000});
  ::kill(server.pid(), SIGSTOP); // so that none comes while they are counted
  const auto processes = descendants_of(server.pid());
  const auto qemus = qemus_of(server.pid());
  const auto from_template = static_cast<std::size_t>(std::count_if(
      qemus.begin(), qemus.end(), [](const auto& each) { return is_restored(each.first); }));
  const auto launcher = launcher_of(server.pid());
  const auto is_left = [&](pid_t pid) {
    return pid != 0 && is_alive(pid);
  };
  const auto begin = clock_type::now();
  ::kill(server.pid(), SIGKILL);
  eventually("all is gone", [&] {
    return std::none_of(processes.begin(), processes.end(), is_left) && !is_left(launcher);
  });
  const auto took =
      std::chrono::duration_cast<std::chrono::milliseconds>(clock_type::now() - begin);
  BOOST_TEST(qemus.size() >= 17u); // up to three may have sealed and gone
  BOOST_TEST(from_template >= waiting);
  BOOST_TEST(qemus.size() - from_template >= booting);
  std::cout << "killed with " << qemus.size() - from_template << " booted and " << from_template
            << " restored VMs, while " << writing << " runs were sealed of which "
            << count_of(server.log(), "status=SUCCESS") << " had ended: all gone after "
            << took.count() << " ms\n";
  return took;
}

} // namespace

BOOST_AUTO_TEST_CASE(twenty_vms_in_all_stages_are_gone_a_second_after_the_daemon_was_killed) {
  const int rounds = is_full ? 20 : 2;
  state_folder folder;
  std::minstd_rand random{11};
  std::string base;
  {
    node server{folder.path()};
    base = server.import_busybox();
    BOOST_TEST(server.stop() == 0);
  }
  for (int round = 0; round < rounds; ++round) {
    BOOST_TEST(kill_at_work(folder, base, round, random).count() <= 1000);
  }
  // What was sealed is whole, and nothing of the rest is in the way.
  node server{folder.path()};
  BOOST_TEST(stdout_of(server.shell(base, "echo fine")) == "fine\n");
  BOOST_TEST(server.command("fsck --scrub").find("\nclean\n") != std::string::npos);
  BOOST_TEST(overlays_in(folder.path()) == 0u);
}
