#define BOOST_TEST_MODULE queue
#include "tests/integration/node.hpp"

#include <boost/test/unit_test.hpp>

#include <cstdint>
#include <string>

using namespace coppice::test;

namespace {

/// The place in the queue; 0 for what does not wait for a slot.
std::int64_t place_of(const node& server, const std::string& operation) {
  auto live = server.connect().get("/v1/operations/" + operation + "?inflight=1").json();
  const auto* queue = live.as_object().if_contains("queue");
  return queue ? queue->at("position").as_int64() : 0;
}

} // namespace

BOOST_AUTO_TEST_CASE(runs_wait_by_priority_know_their_place_and_are_bounded) {
  state_folder folder;
  node server{folder.path(),
              {"--vm.running_max=1", "--vm.cpus_max=1", "--vm.classes=2:256",
               "--limits.pending_project_max=3", "--pool.ceiling=0"}};
  auto base = server.import_busybox();

  // Larger than the node: at once, with the reason, and its place is free again.
  auto large = server.run(
      {{"command", "true"}, {"image", base}, {"resources", boost::json::object{{"cpus", 2}}}});
  BOOST_TEST(status_of(large) == "FAILED");
  BOOST_TEST(error_of(large).find("never fits this node") != std::string::npos);
  BOOST_TEST(large.at("result_image_uuid").is_null());

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
  BOOST_TEST(all.size() == 4u); // nothing was started

  BOOST_TEST(server.connect().request("DELETE", "/v1/operations/" + running).status == 202u);
  BOOST_TEST(status_of(server.wait(urgent)) == "SUCCESS");
  server.wait_for(usual, {"EXECUTING"});
  BOOST_TEST(server.connect().request("DELETE", "/v1/operations/" + usual).status == 202u);
  eventually("nothing runs", [&] { return descendants_of(server.pid()).empty(); });
}
