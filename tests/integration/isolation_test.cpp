#define BOOST_TEST_MODULE isolation
#include "tests/integration/node.hpp"

#include <boost/test/unit_test.hpp>

#include <set>
#include <string>
#include <vector>

using namespace coppice::test;

BOOST_AUTO_TEST_CASE(eight_runs_at_once_see_nothing_of_each_other) {
  state_folder folder;
  node server{folder.path(), {"--vm.running_max=8", "--pool.ceiling=0"}};
  auto base = server.import_busybox();

  constexpr int runs = 8;
  std::vector<std::string> operations;
  for (int i = 0; i < runs; ++i) {
    auto me = std::to_string(i);
    // Each runs until it is cancelled, so that all eight do at one moment.
    operations.push_back(
        server.spawn({{"command", "echo run" + me + " > /root/who; sleep 100" + me +
                                      " & hostname; cat /root/who; ls /root; "
                                      "ps -o args | grep '^sleep'; wait"},
                      {"shell", true},
                      {"hostname", "host" + me},
                      {"image", base},
                      {"timeout", 3000}}));
  }
  // All eight are executing at one moment: their intervals overlap.
  for (const auto& operation : operations) {
    server.wait_for(operation, {"EXECUTING"});
  }
  auto client = server.connect();
  for (const auto& operation : operations) {
    auto now = client.get("/v1/operations/" + operation).json().as_object();
    BOOST_TEST(status_of(now) == "EXECUTING");
  }
  BOOST_TEST(descendants_of(server.pid()).size() >= 2u * runs); // a guard and a QEMU each
  for (int i = 0; i < runs; ++i) {
    auto me = std::to_string(i);
    const auto& operation = operations[static_cast<std::size_t>(i)];
    std::string seen;
    // Its own name, its own file, nobody else's, and of all sleeping processes its own.
    auto wanted = "host" + me + "\nrun" + me + "\nwho\nsleep 100" + me + "\n";
    eventually("run " + me + " shows what it sees", [&] {
      auto now = client.get("/v1/operations/" + operation + "?inflight=1").json().as_object();
      seen = stdout_of(now);
      return seen.size() >= wanted.size();
    });
    BOOST_TEST(seen == wanted);
  }
  for (const auto& operation : operations) {
    BOOST_TEST(client.request("DELETE", "/v1/operations/" + operation).status == 202u);
  }
  eventually("every VM is gone", [&] { return descendants_of(server.pid()).empty(); });
}

BOOST_AUTO_TEST_CASE(siblings_have_their_own_content_under_the_same_path) {
  state_folder folder;
  node server{folder.path(), {"--vm.running_max=8", "--pool.ceiling=0"}};
  auto base = server.import_busybox();
  std::vector<std::string> operations;
  for (int i = 0; i < 8; ++i) {
    operations.push_back(
        server.spawn({{"command", "echo run" + std::to_string(i) +
                                      " > /root/who; "
                                      "cat /proc/sys/kernel/random/uuid; ls /root"},
                      {"shell", true},
                      {"image", base}}));
  }
  std::set<std::string> uuids;
  for (int i = 0; i < 8; ++i) {
    auto done = server.wait(operations[static_cast<std::size_t>(i)]);
    BOOST_REQUIRE_MESSAGE(status_of(done) == "SUCCESS", error_of(done));
    auto out = stdout_of(done);
    BOOST_TEST(out.ends_with("\nwho\n"), out);
    uuids.insert(out.substr(0, 36));
    auto content =
        server.connect().get("/v1/inspect/" + result_image_of(done) + "/download?path=/root/who");
    BOOST_TEST(content.body == "run" + std::to_string(i) + "\n");
  }
  BOOST_TEST(uuids.size() == 8u);
}
