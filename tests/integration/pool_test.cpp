#define BOOST_TEST_MODULE pool
#include "tests/integration/node.hpp"

#include <boost/test/unit_test.hpp>

#include <signal.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

using namespace coppice::test;

namespace {

std::string way_of(const boost::json::object& operation) {
  auto name = operation.at("metrics").at("vm_start").as_string();
  return {name.data(), name.size()};
}

/// QEMU's processes.
std::vector<pid_t> qemus_of(const node& server) {
  std::vector<pid_t> out;
  for (auto pid : descendants_of(server.pid())) {
    std::error_code gone;
    auto program = std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/exe", gone);
    if (program.filename().string().starts_with("qemu-system")) {
      out.push_back(pid);
    }
  }
  return out;
}

/// Its lines.
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::size_t begin = 0;
  while (begin < text.size()) {
    auto end = std::min(text.find('\n', begin), text.size());
    out.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t out = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) {
    ++out;
  }
  return out;
}

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
    eventually("only that one is there", [&] { return qemus_of(server).size() == 1; });
    auto waiting = qemus_of(server).front();
    BOOST_REQUIRE(::kill(waiting, signal) == 0);
    auto done = server.shell(base, "echo fine");
    BOOST_TEST(status_of(done) == "SUCCESS");
    BOOST_TEST(stdout_of(done) == "fine\n");
    wait_for_waiting(server, waited + 1);
    eventually("it is gone", [&] { return ::kill(waiting, 0) != 0; });
  }
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
