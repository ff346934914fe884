#include "tests/gateway/server_fixture.hpp"

#include <chrono>
#include <future>
#include <string>

using namespace coppice;
using namespace coppice::test;
using namespace std::chrono_literals;

namespace {

struct drain_fixture : server_fixture {
  /// A request that is under way until the rest of its body comes.
  void begin_upload(http_client& client) {
    client.send("POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n"
                "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n");
    BOOST_TEST(client.read_answer().status == 100u);
    client.send("first");
  }

  /// Drains on a thread of its own; back when the server has begun to.
  std::future<std::size_t> begin_drain(std::chrono::milliseconds limit) {
    auto idle = client();
    BOOST_TEST(idle.get("/healthz").status == 200u);
    auto left = std::async(std::launch::async, [this, limit] { return server->drain(limit); });
    BOOST_TEST(idle.is_closed_by_server());
    return left;
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(http_drain, drain_fixture)

BOOST_AUTO_TEST_CASE(requests_under_way_are_answered_while_nobody_new_is_let_in) {
  inside.capacity->set(node_capacity{1, 1, 1000});
  auto busy = client();
  begin_upload(busy);
  auto left = begin_drain(1h);
  BOOST_CHECK_THROW(client(), boost::system::system_error);
  auto not_ready = operator_client().get("/readyz");
  BOOST_TEST(not_ready.status == 503u);
  BOOST_TEST(mentions(error_of(not_ready), "stopping"));
  BOOST_TEST(operator_client().get("/healthz").status == 200u);
  busy.send("other");
  auto answer = busy.read_answer();
  BOOST_TEST(answer.status == 201u);
  BOOST_TEST(!answer.keep_alive);
  BOOST_TEST(busy.is_closed_by_server());
  busy.close();
  BOOST_TEST(left.get() == 0u);
}

BOOST_AUTO_TEST_CASE(requests_that_take_too_long_are_cut_off) {
  auto busy = client();
  begin_upload(busy);
  BOOST_TEST(begin_drain(1ms).get() == 1u);
  server->stop();
  BOOST_TEST(busy.is_closed_by_server());
}

BOOST_AUTO_TEST_CASE(a_header_that_has_begun_is_heard_to_its_end) {
  auto busy = client();
  BOOST_TEST(busy.get("/healthz").status == 200u);
  busy.send("GET /heal");
  // The server has seen the part: it answers this client in order, on the same thread.
  BOOST_TEST(operator_client().get("/healthz").status == 200u);
  auto left = begin_drain(1h);
  busy.send("thz HTTP/1.1\r\nHost: x\r\n\r\n");
  auto answer = busy.read_answer();
  BOOST_TEST(answer.status == 200u);
  BOOST_TEST(!answer.keep_alive);
  busy.close();
  BOOST_TEST(left.get() == 0u);
}

BOOST_AUTO_TEST_CASE(a_server_without_clients_is_drained_at_once) {
  running();
  BOOST_TEST(server->drain(1h) == 0u);
}

BOOST_AUTO_TEST_SUITE_END()
