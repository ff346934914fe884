#define BOOST_TEST_MODULE cancel
#include "tests/integration/node.hpp"

#include <boost/test/unit_test.hpp>

#include <string>

using namespace coppice::test;

namespace {

unsigned cancel(const node& server, const std::string& operation) {
  return server.connect().request("DELETE", "/v1/operations/" + operation).status;
}

} // namespace

BOOST_AUTO_TEST_CASE(cancel_works_while_pending_while_starting_and_while_running) {
  state_folder folder;
  node server{folder.path(), {"--vm.running_max=1", "--pool.ceiling=0"}};
  auto base = server.import_busybox();
  boost::json::object endless{{"command", "sleep 1000"}, {"shell", true}, {"image", base}};

  auto running = server.spawn(endless);
  auto waiting = server.spawn(endless);
  server.wait_for(running, {"EXECUTING"});
  BOOST_TEST(descendants_of(server.pid()).size() >= 2u);

  BOOST_TEST(cancel(server, waiting) == 202u);
  auto pending_now = server.connect().get("/v1/operations/" + waiting).json().as_object();
  BOOST_TEST(status_of(pending_now) == "CANCELLED"); // at once, not after a while

  BOOST_TEST(cancel(server, running) == 202u);
  auto now = server.connect().get("/v1/operations/" + running).json().as_object();
  BOOST_TEST(status_of(now) == "CANCELLED");
  BOOST_TEST(now.at("result_image_uuid").is_null());
  eventually("the VM is gone", [&] { return descendants_of(server.pid()).empty(); });

  BOOST_TEST(cancel(server, running) == 409u);
  BOOST_TEST(cancel(server, "00000000-0000-4000-8000-000000000000") == 404u);

  // Directly after spawn, before or while the VM boots.
  auto early = server.spawn(endless);
  BOOST_TEST(cancel(server, early) == 202u);
  auto booting = server.spawn(endless);
  server.wait_for(booting, {"ASSIGNED", "EXECUTING"});
  BOOST_TEST(cancel(server, booting) == 202u);
  eventually("nothing runs", [&] { return descendants_of(server.pid()).empty(); });
  BOOST_TEST(stdout_of(server.shell(base, "echo free")) == "free\n");
}
