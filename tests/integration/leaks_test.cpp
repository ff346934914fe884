#define BOOST_TEST_MODULE leaks
#include "tests/integration/inventory.hpp"
#include "tests/integration/node.hpp"
#include "tests/integration/processes.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

// What a daemon has after many runs must be what it had before.

using namespace coppice::test;

namespace {

const bool is_full = std::getenv("COPPICE_TEST_FULL") != nullptr;

BOOST_TEST_GLOBAL_FIXTURE(own_temporary_folder);

/// Proportional set size, as it would be if `wanted` such processes shared what `there` share.
long pss_kib(pid_t pid, std::size_t there, std::size_t wanted) {
  long proportional = 0;
  long own = 0;
  for (const auto& line : lines_of(text_of(proc(pid) / "smaps_rollup"))) {
    const auto value = [&] {
      return std::atol(line.c_str() + line.find(':') + 1);
    };
    if (line.starts_with("Pss:")) {
      proportional = value();
    } else if (line.starts_with("Private_")) { // clean, dirty and huge pages
      own += value();
    }
  }
  return own + (proportional - own) * static_cast<long>(there) / static_cast<long>(wanted);
}

// -- the load
// --------------------------------------------------------------------------------------

void delete_results(const node& server, const std::string& base) {
  auto client = server.connect();
  auto page = client.get("/v1/images?limit=1000").json();
  for (const auto& row : page.at("images").as_array()) {
    const std::string id{row.at("uuid").as_string()};
    if (id != base) {
      auto answer = client.request("DELETE", "/v1/images/" + id);
      BOOST_TEST(answer.status == 204u, answer.body);
    }
  }
}

/// One of each kind; some of them at once, so that not all find a VM that waits.
void run_six(const node& server, const std::string& base) {
  const auto of = [&](const char* command) {
    return boost::json::object{{"command", command}, {"shell", true}, {"image", base}};
  };
  auto kept = of("echo kept > /root/kept");
  auto disposable = of("echo gone > /root/gone");
  disposable["disposable"] = true;
  auto late = of("sleep 1000");
  late["timeout"] = 1;
  const auto stays = server.spawn(kept);
  const auto goes = server.spawn(disposable);
  const auto fails = server.spawn(of("echo no >&2; exit 3"));
  BOOST_TEST(status_of(server.wait(stays)) == "SUCCESS");
  BOOST_TEST(status_of(server.wait(goes)) == "SUCCESS");
  BOOST_TEST(exit_code_of(server.wait(fails)) == 3);
  const auto times_out = server.spawn(late);
  const auto cancelled = server.spawn(of("sleep 1000"));
  const auto early = server.spawn(of("sleep 1000"));
  auto client = server.connect();
  BOOST_TEST(client.request("DELETE", "/v1/operations/" + early).status == 202u);
  server.wait_for(cancelled, {"EXECUTING"});
  BOOST_TEST(client.request("DELETE", "/v1/operations/" + cancelled).status == 202u);
  server.wait(times_out);
  BOOST_TEST(client.get("/v1/inspect/" + base + "/list?path=/").status == 200u);
}

} // namespace

BOOST_AUTO_TEST_CASE(after_many_runs_nothing_is_there_that_was_not_there_before) {
  const int rounds = is_full ? 167 : 10; // of six runs
  state_folder folder;
  node server{folder.path(), {"--pool.floor=2", "--pool.ceiling=2"}};
  auto base = server.import_busybox();
  // Threads, rings and connections that are made at first use are no leaks.
  run_six(server, base);
  delete_results(server, base);

  // A quiet daemon: two VMs wait, and what was ended is gone. Stable, or it is no start to go by.
  inventory before;
  eventually("two VMs wait and nothing else is there", [&] {
    auto now = inventory_of(server, folder.path());
    const bool is_same = now == before;
    before = std::move(now);
    return is_same && count_in(before, "process qemu") == 2 &&
           count_in(before, (folder.path() / "images" / "").string()) == 1;
  });

  std::vector<long> memory;
  for (int round = 0; round < rounds; ++round) {
    run_six(server, base);
    delete_results(server, base);
    memory.push_back(anonymous_kib(server.pid()));
  }
  std::string more;
  auto is_as_before = [&] {
    more = surplus(before, inventory_of(server, folder.path()));
    return more.empty();
  };
  const auto limit = std::chrono::steady_clock::now() + patience();
  while (!is_as_before() && std::chrono::steady_clock::now() < limit) {
    std::this_thread::sleep_for(std::chrono::milliseconds{200});
  }
  BOOST_TEST(more.empty(), "after " << rounds * 6 << " runs:\n" << more);

  // The lowest of each quarter: peaks come and go, what is lost stays. It is lost in every quarter;
  // the allocator's areas of each thread fill only once, by megabytes, in whichever that is.
  const auto lowest = [&](int quarter) {
    const auto begin = memory.begin() + quarter * rounds / 4;
    return *std::min_element(begin, memory.begin() + (quarter + 1) * rounds / 4);
  };
  const auto grown_kib = std::min(lowest(2) - lowest(1), lowest(3) - lowest(2));
  std::cout << rounds * 6 << " runs; the daemon's own memory was " << lowest(0) << " KiB, then "
            << lowest(1) << ", then " << lowest(2) << ", then " << lowest(3) << '\n';
  // A short run is all warm-up.
  const long warm_up_kib = is_full ? 512 : 8192;
  BOOST_TEST(grown_kib <= 2 * rounds * 6 / 4 + warm_up_kib);
  BOOST_TEST(server.stop() == 0);
}

BOOST_AUTO_TEST_CASE(many_vms_wait_at_once_in_little_memory_and_go_with_the_daemon) {
  constexpr std::size_t usual = 60;
  const std::size_t count = is_full ? usual : 12;
  state_folder folder;
  const auto number = std::to_string(count);
  node server{folder.path(),
              {"--pool.floor=" + number, "--pool.ceiling=" + number, "--log.level=debug"}};
  std::size_t waiting = 0;
  // Each has its turn: the limit is for one.
  for (std::size_t next = 1; next <= count; ++next) {
    eventually(std::to_string(next) + " VMs wait", [&] {
      waiting = count_of(server.log(), "\"a vm waits\"");
      return waiting >= next;
    });
  }
  BOOST_TEST(waiting == count); // none was replaced
  auto qemus = qemus_of(server.pid());
  BOOST_TEST(qemus.size() == count);
  std::vector<long> sizes;
  for (const auto& [qemu, guard] : qemus) {
    sizes.push_back(pss_kib(qemu, count, usual));
  }
  std::sort(sizes.begin(), sizes.end());
  std::cout << count << " VMs wait; PSS of one, were they " << usual << ": " << sizes.front()
            << " to " << sizes.back() << " KiB, median " << sizes[sizes.size() / 2] << '\n';
  // 46 MiB with the packaged kernel; what a change adds shows here first.
  BOOST_TEST(sizes[sizes.size() / 2] <= 45 * 1024);
  server.kill();
  eventually("all are gone", [&] {
    return std::none_of(qemus.begin(), qemus.end(),
                        [](const auto& each) { return is_alive(each.first); });
  });
}
