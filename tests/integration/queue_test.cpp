#define BOOST_TEST_MODULE queue
#include "tests/integration/node.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

using namespace coppice::test;

namespace {

/// The place in the queue; 0 for what does not wait for a slot.
std::int64_t place_of(const node& server, const std::string& operation) {
  auto live = server.connect().get("/v1/operations/" + operation + "?inflight=1").json();
  const auto* queue = live.as_object().if_contains("queue");
  return queue ? queue->at("position").as_int64() : 0;
}

/// Where the log tells of the operation's end; npos: nowhere.
std::size_t end_in(const std::string& log, const std::string& operation) {
  std::size_t end = 0;
  for (auto at = log.find("operation ended"); at != log.npos;
       at = log.find("operation ended", end)) {
    end = log.find('\n', at);
    if (log.substr(at, end - at).find(operation) != std::string::npos) {
      return at;
    }
  }
  return log.npos;
}

} // namespace

BOOST_AUTO_TEST_CASE(runs_wait_by_priority_know_their_place_and_are_bounded) {
  state_folder folder;
  node server{folder.path(),
              {"--vm.running_max=1", "--vm.cpus_max=1", "--vm.classes=2:256",
               "--limits.pending_project_max=3", "--pool.ceiling=0"}};
  auto base = server.import_busybox();

  // Larger than the node: refused though there is such a class, and the log has named it.
  auto large = server.connect().post(
      "/v1/instances", boost::json::object{{"command", "true"},
                                           {"image", base},
                                           {"resources", boost::json::object{{"cpus", 2}}}});
  BOOST_TEST(large.status == 400u);
  BOOST_TEST(large.body.find("resources.cpus") != std::string::npos, large.body);
  BOOST_TEST(server.log().find("never fits this node") != std::string::npos);

  boost::json::object endless{{"command", "sleep 1000"}, {"shell", true}, {"image", base}};
  auto running = server.spawn(endless);
  server.wait_for(running, {"EXECUTING"});
  auto usual = server.spawn(endless);
  boost::json::object hurried{{"command", "true"}, {"image", base}, {"priority", 10}};
  auto urgent = server.spawn(hurried);
  eventually("both have a place",
             [&] { return place_of(server, urgent) == 1 && place_of(server, usual) == 2; });
  BOOST_TEST(place_of(server, running) == 0);

  auto refused = server.connect().post("/v1/instances", hurried);
  BOOST_TEST(refused.status == 429u);
  BOOST_TEST(refused.header("Retry-After") == "1");
  auto all = server.connect().get("/v1/operations?kind=instance").json().as_array();
  BOOST_TEST(all.size() == 3u); // nothing was started

  BOOST_TEST(server.connect().request("DELETE", "/v1/operations/" + running).status == 202u);
  BOOST_TEST(status_of(server.wait(urgent)) == "SUCCESS");
  server.wait_for(usual, {"EXECUTING"});
  BOOST_TEST(server.connect().request("DELETE", "/v1/operations/" + usual).status == 202u);
  eventually("nothing runs", [&] { return descendants_of(server.pid()).empty(); });
}

BOOST_AUTO_TEST_CASE(a_project_with_one_run_waits_for_one_slot_however_many_another_has_queued) {
  constexpr int queued_runs = 12;
  state_folder folder;
  node server{folder.path(), {"--vm.running_max=1", "--vm.cpus_max=1", "--pool.ceiling=0"}};
  auto base = server.import_busybox();
  server.command("import oci:" + (folder.path() / "test-layout").string() +
                 " --tag busybox:latest --project other");
  const header_list as_other{{"Authorization", "Bearer " + server.token("other")}};

  auto first = server.spawn({{"command", "sleep 1000"}, {"shell", true}, {"image", base}});
  server.wait_for(first, {"EXECUTING"});
  std::vector<std::string> many;
  for (int i = 0; i < queued_runs; ++i) {
    many.push_back(server.spawn({{"command", "true"}, {"image", base}, {"disposable", true}}));
  }
  auto accepted = server.connect().request(
      "POST", "/v1/instances",
      R"({"command":"true","image":"tag:busybox:latest","disposable":true})", as_other);
  BOOST_REQUIRE(accepted.status == 201u);
  auto single = std::string{accepted.json().at("uuid").as_string()};

  BOOST_TEST(server.connect().request("DELETE", "/v1/operations/" + first).status == 202u);
  for (const auto& operation : many) {
    BOOST_TEST(status_of(server.wait(operation)) == "SUCCESS");
  }
  // One slot, so they end in the order in which they were granted. A share of one half lets at most
  // one of the many go before the single run.
  const auto log = server.log();
  const auto its_end = end_in(log, single);
  BOOST_REQUIRE(its_end != log.npos);
  const auto sooner = std::count_if(many.begin(), many.end(), [&](const std::string& operation) {
    return end_in(log, operation) < its_end;
  });
  BOOST_TEST(sooner <= 1);
  eventually("the numbers say so", [&] {
    auto text = server.connect().get("/metrics").body;
    return text.find("\ncoppice_runs_total{end=\"success\"} 13\n") != text.npos &&
           text.find("\ncoppice_runs_total{end=\"cancelled\"} 1\n") != text.npos &&
           text.find("\ncoppice_slots_used{kind=\"instance\"} 0\n") != text.npos;
  });
}
