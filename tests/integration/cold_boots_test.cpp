#define BOOST_TEST_MODULE cold_boots
#include "tests/integration/node.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <string>
#include <thread>
#include <vector>

// The fallback of everything: a guest that calibrates its clock by itself does not come up on a
// busy host, once in a while.

using namespace coppice::test;

namespace {

/// Threads that never rest, as many as this machine has cores.
class busy_cores {
public:
  busy_cores() {
    for (unsigned i = 0; i < std::max(2u, std::thread::hardware_concurrency()); ++i) {
      threads_.emplace_back([this] {
        while (!is_over_) {
        }
      });
    }
  }
  ~busy_cores() {
    is_over_ = true;
    for (auto& thread : threads_) {
      thread.join();
    }
  }
  busy_cores(const busy_cores&) = delete;
  busy_cores& operator=(const busy_cores&) = delete;

private:
  std::atomic<bool> is_over_{false};
  std::vector<std::thread> threads_;
};

} // namespace

BOOST_AUTO_TEST_CASE(every_cold_boot_on_busy_cores_reaches_its_agent) {
  const int boots = std::getenv("COPPICE_TEST_FULL") != nullptr ? 100 : 10;
  constexpr std::size_t at_once = 4;
  state_folder folder;
  // A boot that is slow because the cores are busy is no failure; one that hangs is.
  node server{folder.path(),
              {"--pool.templates=false", "--vm.running_max=4", "--vm.cpus_max=4",
               "--vm.boot_timeout=" + std::to_string(patience().count()) + "s"}};
  auto base = server.import_busybox();
  const busy_cores load;
  std::deque<std::string> under_way;
  for (int begun = 0, ended = 0; ended < boots; ++ended) {
    for (; begun < boots && under_way.size() < at_once; ++begun) {
      under_way.push_back(
          server.spawn({{"command", "true"}, {"image", base}, {"disposable", true}}));
    }
    auto done = server.wait(under_way.front());
    under_way.pop_front();
    BOOST_TEST(status_of(done) == "SUCCESS", error_of(done));
    BOOST_TEST(done.at("metrics").at("vm_start").as_string() == "cold");
  }
}
