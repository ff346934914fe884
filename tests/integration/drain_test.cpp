#define BOOST_TEST_MODULE drain
#include <boost/test/unit_test.hpp>

#include "tests/integration/node.hpp"

#include <sys/types.h>

#include <csignal>
#include <string>

using namespace coppice::test;

// How the daemon goes, as its clients and its operator see it.

namespace {

/// An upload that is under way until its second half comes.
void begin_upload(http_client& client, const std::string& token) {
  client.send("POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token +
              "\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n");
  BOOST_REQUIRE(client.read_answer().status == 100u);
  client.send("first");
}

/// Tells the daemon to stop, and is back when it has begun to.
void begin_stop(const node& daemon) {
  auto idle = daemon.connect();
  BOOST_REQUIRE(idle.get("/healthz").status == 200u);
  ::kill(daemon.pid(), SIGTERM);
  BOOST_REQUIRE(idle.is_closed_by_server());
}

} // namespace

BOOST_AUTO_TEST_CASE(a_request_under_way_is_answered_before_the_daemon_ends) {
  state_folder state;
  node daemon{state.path()};
  auto busy = daemon.connect();
  begin_upload(busy, daemon.token());
  begin_stop(daemon);
  BOOST_CHECK_THROW(daemon.connect(), boost::system::system_error);
  http_client admin{(state.path() / "admin.sock").string()};
  BOOST_TEST(admin.get("/readyz").status == 503u);
  busy.send("other");
  BOOST_TEST(busy.read_answer().status == 201u);
  BOOST_TEST(busy.is_closed_by_server());
  busy.close();
  admin.close();
  ::kill(daemon.pid(), SIGHUP); // means nothing any more, and does no harm
  BOOST_TEST(daemon.wait_for_end() == 0);
}

BOOST_AUTO_TEST_CASE(a_second_signal_ends_the_daemon_at_once) {
  state_folder state;
  node daemon{state.path(), {"--http.drain_timeout=1h"}};
  auto busy = daemon.connect();
  begin_upload(busy, daemon.token());
  begin_stop(daemon);
  BOOST_TEST(daemon.stop() == 128 + SIGTERM);
  BOOST_TEST(busy.is_closed_by_server());
  node again{state.path()};
  BOOST_TEST(again.connect().get("/v1/whoami").status == 200u);
}
