#define BOOST_TEST_MODULE soak
#include "tests/integration/inventory.hpp"
#include "tests/integration/mixed_load.hpp"
#include "tests/integration/node.hpp"
#include "tests/integration/processes.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

// All that clients do, at once and for long: the daemon has afterwards what it had before.

using namespace coppice::test;

namespace {

const bool is_full = std::getenv("COPPICE_TEST_FULL") != nullptr;

/// Laps of the same load; what is there after the first is what the others are compared with.
constexpr unsigned laps_count = 5;
const std::chrono::seconds lap_time{is_full ? 60 : 12};

BOOST_TEST_GLOBAL_FIXTURE(own_temporary_folder);

/// Makes the daemon's allocator give back what is freed, so that its memory tells what it holds.
///
/// As it is by default, each of a few dozen threads fills areas of its own, and what is freed
/// between two small blocks that stay is kept: tens of MiB, which this load fills in no certain lap
/// and which would hide what a lap loses.
struct frugal_allocator {
  frugal_allocator() {
    ::setenv("MALLOC_ARENA_MAX", "1", 1);
    ::setenv("MALLOC_MMAP_THRESHOLD_", "16384", 1); // large blocks are mappings of their own
    ::setenv("MALLOC_TRIM_THRESHOLD_", "65536", 1);
  }
};

BOOST_TEST_GLOBAL_FIXTURE(frugal_allocator);

void wait_until_idle(const node& server) {
  auto client = server.connect();
  for (const std::string status : {"PENDING", "ASSIGNED", "EXECUTING"}) {
    eventually("nothing is " + status, [&] {
      return client.get("/v1/operations?limit=1&status=" + status).json().as_array().empty();
    });
  }
}

/// A quiet daemon: two VMs wait, nobody is connected, no image is read and one is there. Stable, or
/// it is no start to go by.
inventory inventory_at_rest(const node& server, const std::filesystem::path& state) {
  inventory last;
  eventually("two VMs wait and nothing else is there", [&] {
    auto now = inventory_of(server, state);
    const bool is_same = now == last;
    last = std::move(now);
    return is_same && count_in(last, "process qemu") == 2 &&
           count_in(last, "process ") == 4 && // each has a guard
           count_in(last, (state / "images" / "").string()) == 1;
  });
  return last;
}

/// Waits until there is no more than `before`; gives what there is more of if it stays.
std::string surplus_that_stays(const node& server, const std::filesystem::path& state,
                               const inventory& before) {
  const auto limit = std::chrono::steady_clock::now() + patience();
  std::string more = surplus(before, inventory_of(server, state));
  while (!more.empty() && std::chrono::steady_clock::now() < limit) {
    std::this_thread::sleep_for(std::chrono::milliseconds{200});
    more = surplus(before, inventory_of(server, state));
  }
  return more;
}

struct memory {
  long daemon_kib = 0;
  long launcher_kib = 0;
};

memory memory_of(const node& server) {
  const auto launcher = launcher_of(server.pid());
  return {anonymous_kib(server.pid()), launcher == 0 ? 0 : anonymous_kib(launcher)};
}

void tell(unsigned number, const mixed_load::lap& lap, const inventory& all, const memory& now) {
  std::cout << "lap " << number << ":";
  for (const auto& [name, count] : lap.done) {
    std::cout << ' ' << count << ' ' << name << ',';
  }
  std::cout << " then at rest " << count_in(all, "the daemon has open ") << " descriptors, "
            << count_in(all, "the daemon has a thread ") << " threads, "
            << count_in(all, "process ") << " processes below, " << now.daemon_kib
            << " KiB of its own, " << now.launcher_kib << " KiB of the launcher's" << std::endl;
}

/// By how much each lap has added more than it may, in the best lap. What is lost is lost in every
/// lap; caches fill in some.
///
/// Until its time has come a deadline stays in the actor system's clock, though what it was for is
/// over, and keeps the control block of its actor: less than 2 KiB for a run, a hundred bytes for a
/// question to an actor. Less than every second action is a run, and each asks a few dozen times.
/// 1 KiB lost by every request is found: an action makes about eight.
long least_excess_kib(const std::vector<memory>& at_rest, const std::vector<std::size_t>& actions) {
  long out = LONG_MAX;
  for (std::size_t i = 1; i < at_rest.size(); ++i) {
    const auto grown = at_rest[i].daemon_kib - at_rest[i - 1].daemon_kib;
    out = std::min(out, grown - 128 - 2 * static_cast<long>(actions[i]));
  }
  return out;
}

} // namespace

BOOST_AUTO_TEST_CASE(after_laps_of_mixed_load_the_daemon_has_what_it_had_after_the_first) {
  state_folder folder;
  node server{folder.path(), {"--pool.floor=2", "--pool.ceiling=2", "--vm.running_max=2"}};
  mixed_load load{server, server.import_busybox()};
  inventory before;
  std::vector<memory> at_rest;
  std::vector<std::size_t> actions;
  for (unsigned number = 0; number < laps_count; ++number) {
    const auto lap = load.run(1000 * number, lap_time);
    for (const auto& complaint : lap.complaints) {
      BOOST_ERROR(complaint);
    }
    BOOST_REQUIRE(lap.complaints.empty());
    wait_until_idle(server);
    if (number == 0) {
      // Threads, rings and connections that are made at first use are no leaks.
      before = inventory_at_rest(server, folder.path());
    } else {
      const auto more = surplus_that_stays(server, folder.path(), before);
      BOOST_REQUIRE_MESSAGE(more.empty(), "after lap " << number << ":\n" << more);
    }
    at_rest.push_back(memory_of(server));
    actions.push_back(lap.sum());
    tell(number, lap, inventory_of(server, folder.path()), at_rest.back());
  }
  BOOST_TEST(least_excess_kib(at_rest, actions) <= 0);
  BOOST_TEST(at_rest.back().launcher_kib <= at_rest.front().launcher_kib + 256);
  BOOST_TEST(server.stop() == 0);
}
