#define BOOST_TEST_MODULE gateway_events
#include "tests/gateway/server_fixture.hpp"
#include "tests/support/event_stream.hpp"

#include <list>
#include <string>
#include <string_view>
#include <vector>

using namespace coppice;
using namespace coppice::test;

namespace {

using status = proto::OperationStatus;
using names = std::vector<std::string>;

struct fixture : server_fixture {
  uuid add(status at) {
    return inside.add_operation("default", [&](proto::OperationRecord::Builder record) {
      record.setStatus(at);
      record.getRequest().initInstance();
    });
  }

  void print(const uuid& id, std::string_view text, std::uint32_t spid = 1) {
    inside.add_event(id, [&](proto::Event::Builder event) {
      event.setSpid(spid);
      event.setStdout({reinterpret_cast<const kj::byte*>(text.data()), text.size()});
    });
  }

  static std::string target(const uuid& id, const std::string& query = {}) {
    return "/v1/operations/" + id.text() + "/events" + query;
  }

  event_stream open(const uuid& id, const std::string& query = {},
                    const header_list& headers = {}) {
    return event_stream{running().port(), "secret", target(id, query), headers};
  }

  names all(const uuid& id, const std::string& query = {}, const header_list& headers = {}) {
    auto stream = open(id, query, headers);
    auto frames = stream.rest();
    BOOST_TEST(stream.broken().empty(), stream.broken());
    return names_of(frames);
  }

  /// stdout 0 and 1, of subprocess 2 in between, completion.
  uuid add_finished() {
    auto id = add(status::EXECUTING);
    print(id, "one");
    print(id, "other", 2);
    print(id, "two");
    inside.end_operation(id, status::SUCCESS);
    return id;
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(events, fixture)

BOOST_AUTO_TEST_CASE(the_log_of_an_ended_operation_is_replayed_to_its_completion) {
  auto id = add_finished();
  auto stream = open(id);
  BOOST_TEST(stream.status() == 200u);
  BOOST_TEST(stream.header("Content-Type") == "text/event-stream");
  BOOST_TEST(stream.header("Cache-Control") == "no-cache");
  BOOST_TEST(stream.header("Transfer-Encoding") == "chunked");
  auto frames = stream.rest();
  BOOST_TEST(stream.broken().empty());
  BOOST_TEST(names_of(frames) == (names{"stdout#0", "stdout#1", "stdout#2", "completion#3"}),
             boost::test_tools::per_element());
  BOOST_TEST(text(frames[2].json().at("data").at("value")) == "two");
  BOOST_TEST(all(id, "?follow=1") == names_of(frames), boost::test_tools::per_element());
  BOOST_TEST(inside.watches == 0u); // there is nothing to wait for
}

BOOST_AUTO_TEST_CASE(a_replay_leaves_the_connection_in_a_sane_state) {
  auto id = add_finished();
  auto client = this->client();
  BOOST_TEST(client.get(target(id)).status == 200u);
  BOOST_TEST(client.head(target(id)).status == 200u);
  BOOST_TEST(client.get(target(id)).body.find("completion") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_client_that_has_said_all_gets_the_whole_log) {
  auto id = add(status::EXECUTING);
  for (int i = 0; i < 100; ++i) {
    print(id, std::string(4000, 'x')); // many pages
  }
  inside.end_operation(id, status::SUCCESS);
  auto client = this->client();
  client.send("GET " + target(id, "?follow=1") +
              " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\r\n");
  client.finish_sending();
  BOOST_TEST(mentions(client.read_answer().body, "event: completion"));
}

BOOST_AUTO_TEST_CASE(a_follower_that_has_said_all_sees_that_the_log_is_not_whole) {
  auto id = add(status::EXECUTING);
  print(id, "one");
  auto stream = open(id, "?follow=1");
  BOOST_TEST(stream.next_event().has_value());
  stream.finish_sending();
  BOOST_TEST(stream.rest().empty());
  BOOST_TEST(!stream.broken().empty());
}

BOOST_AUTO_TEST_CASE(what_is_recorded_of_a_live_operation_comes_without_waiting) {
  auto id = add(status::EXECUTING);
  print(id, "so far");
  BOOST_TEST(all(id) == (names{"stdout#0"}), boost::test_tools::per_element());
  BOOST_TEST(all(add(status::PENDING)).empty());
  BOOST_TEST(inside.watches == 0u);
}

BOOST_AUTO_TEST_CASE(resuming_gives_each_later_event_once) {
  auto id = add_finished();
  const names last_two{"stdout#2", "completion#3"};
  BOOST_TEST(all(id, "?since=1") == last_two, boost::test_tools::per_element());
  BOOST_TEST(all(id, "", {{"Last-Event-Id", "1"}}) == last_two, boost::test_tools::per_element());
  BOOST_TEST(all(id, "?follow=1", {{"last-event-ID", "1"}}) == last_two,
             boost::test_tools::per_element());
  // The header is what a client has really seen.
  BOOST_TEST(all(id, "?since=3", {{"Last-Event-Id", "1"}}) == last_two,
             boost::test_tools::per_element());
  BOOST_TEST(all(id, "?since=-1").size() == 4u);
  BOOST_TEST(all(id, "?since=", {{"Last-Event-Id", ""}}).size() == 4u);
}

BOOST_AUTO_TEST_CASE(resuming_beyond_the_end_is_an_empty_stream) {
  auto id = add_finished();
  for (const char* query : {"?since=3", "?since=3&follow=1", "?since=9223372036854775807"}) {
    auto stream = open(id, query);
    BOOST_TEST(stream.status() == 200u, query);
    BOOST_TEST(stream.header("Content-Type") == "text/event-stream");
    BOOST_TEST(stream.rest().empty());
    BOOST_TEST(stream.broken().empty());
  }
}

BOOST_AUTO_TEST_CASE(one_process_is_filtered_out_and_completion_comes_all_the_same) {
  auto id = add_finished();
  BOOST_TEST(all(id, "?spid=1") == (names{"stdout#0", "stdout#2", "completion#3"}),
             boost::test_tools::per_element());
  BOOST_TEST(all(id, "?spid=2") == (names{"stdout#1", "completion#3"}),
             boost::test_tools::per_element());
  BOOST_TEST(all(id, "?spid=0") == (names{"completion#3"}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_follower_sees_each_event_when_it_happens) {
  auto id = add(status::PENDING);
  auto stream = open(id, "?follow=1"); // status and header are there before the first event
  BOOST_TEST(stream.status() == 200u);
  inside.wait_for_watches(1);
  for (int i = 0; i < 3; ++i) {
    print(id, "tick");
    auto frame = stream.next_event();
    BOOST_REQUIRE(frame);
    BOOST_TEST(frame->id.value() == static_cast<std::uint64_t>(i));
  }
  inside.end_operation(id, status::CANCELLED);
  auto last = stream.rest();
  BOOST_REQUIRE(last.size() == 1u);
  BOOST_TEST(text(last[0].json().at("data").at("status")) == "CANCELLED");
  BOOST_TEST(stream.broken().empty());
}

BOOST_AUTO_TEST_CASE(many_followers_of_one_operation_see_the_same) {
  auto id = add(status::EXECUTING);
  std::list<event_stream> streams;
  for (int i = 0; i < 20; ++i) {
    streams.emplace_back(running().port(), "secret", target(id, "?follow=1"));
  }
  inside.wait_for_watches(20);
  for (int i = 0; i < 100; ++i) {
    print(id, std::string(1000, 'x'));
  }
  inside.end_operation(id, status::SUCCESS);
  for (auto& stream : streams) {
    std::uint64_t next = 0;
    while (auto frame = stream.next_event()) {
      BOOST_TEST(frame->id.value() == next++);
    }
    BOOST_TEST(next == 101u);
  }
}

BOOST_AUTO_TEST_CASE(an_early_answer_without_news_is_no_event_and_no_end) {
  auto id = add(status::EXECUTING);
  auto stream = open(id, "?follow=1");
  inside.wait_for_watches(1);
  inside.wake_watchers();
  inside.wait_for_watches(2);
  print(id, "news");
  BOOST_TEST(stream.next_event()->id.value() == 0u);
}

BOOST_AUTO_TEST_CASE(an_operation_that_is_gone_without_an_end_breaks_the_stream) {
  auto id = add(status::EXECUTING);
  print(id, "last");
  auto stream = open(id, "?follow=1");
  for (std::uint64_t look = 1; look <= 5; ++look) {
    inside.wait_for_watches(look);
    inside.wake_watchers(false);
  }
  auto frames = stream.rest();
  BOOST_TEST(names_of(frames) == (names{"stdout#0", "sse_error"}),
             boost::test_tools::per_element());
  BOOST_TEST(mentions(frames.back().data, "resume later"));
  BOOST_TEST(stream.broken().empty());
}

BOOST_AUTO_TEST_CASE(stopping_the_server_breaks_the_streams_at_once) {
  auto id = add(status::EXECUTING);
  print(id, "last");
  auto stream = open(id, "?follow=1");
  BOOST_TEST(stream.next_event()->id.value() == 0u);
  inside.wait_for_watches(1);
  running().stop();
  auto frames = stream.rest();
  BOOST_TEST(names_of(frames) == (names{"sse_error"}), boost::test_tools::per_element());
  BOOST_TEST(mentions(frames.back().data, "stopping"));
  BOOST_TEST(stream.broken().empty());
}

BOOST_AUTO_TEST_CASE(a_log_that_is_not_kept_is_410) {
  auto id = inside.add_operation("default", [](proto::OperationRecord::Builder record) {
    record.setStatus(status::SUCCESS);
    record.setEventsTrimmed(true);
  });
  auto answer = client().get(target(id));
  BOOST_TEST(answer.status == 410u);
  BOOST_TEST(mentions(error_of(answer), "events.keep"));
}

BOOST_AUTO_TEST_CASE(a_log_that_goes_while_it_is_sent_breaks_the_stream) {
  auto id = add(status::EXECUTING);
  print(id, "last");
  auto stream = open(id, "?follow=1");
  BOOST_TEST(stream.next_event()->id.value() == 0u);
  inside.locked([&] { inside.is_trimmed = true; });
  print(id, "lost");
  BOOST_TEST(names_of(stream.rest()) == (names{"sse_error"}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(wrong_questions_are_refused_with_the_reason) {
  auto id = add_finished();
  auto client = this->client();
  auto refused = [&](const std::string& query, const header_list& headers = {}) {
    auto answer = client.request("GET", target(id, query), {}, headers);
    BOOST_TEST(answer.status == 400u, query);
    return error_of(answer);
  };
  BOOST_TEST(mentions(refused("?follow=2"), "follow"));
  for (const char* spid : {"x", "-1", "4294967296", "1.5", "99999999999999999999"}) {
    BOOST_TEST(mentions(refused(std::string{"?spid="} + spid), "spid"));
  }
  BOOST_TEST(mentions(refused("?since=yesterday"), "since"));
  BOOST_TEST(mentions(refused("?since=18446744073709551616"), "since"));
  BOOST_TEST(mentions(refused("", {{"Last-Event-Id", "x"}}), "Last-Event-Id"));
  BOOST_TEST(mentions(refused("?since=1", {{"Last-Event-Id", "1x"}}), "Last-Event-Id"));
  BOOST_TEST(client.get("/v1/operations/nonsense/events").status == 404u);
  BOOST_TEST(client.get(target(uuid::random())).status == 404u);
  BOOST_TEST(client.get(target(inside.add_operation("other", [](auto) {}))).status == 404u);
  auto wrong_method = client.post(target(id), "{}");
  BOOST_TEST(wrong_method.status == 405u);
  BOOST_TEST(wrong_method.header("Allow") == "GET, HEAD");
}

BOOST_AUTO_TEST_CASE(events_need_the_right_to_list) {
  auto id = add_finished();
  inside.add_token("blind", "default", true, false);
  BOOST_TEST(client("blind").get(target(id)).status == 403u);
  BOOST_TEST(client("unknown").get(target(id)).status == 401u);
}

BOOST_AUTO_TEST_SUITE_END()
