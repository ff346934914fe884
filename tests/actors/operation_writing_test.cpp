#include "tests/actors/operation_fixture.hpp"

// What of an operation is written to the catalog, and when.

using namespace coppice;
using namespace coppice::test;

BOOST_FIXTURE_TEST_SUITE(operation_writing, operation_fixture)

BOOST_AUTO_TEST_CASE(output_is_written_when_it_has_waited_long_enough) {
  run_until_executing();
  say(test::guest_output("tick"));
  auto before = events(id);
  BOOST_TEST(before.view()->getEvents().size() == 2u);
  advance(operation_state::flush_delay);
  auto after = events(id);
  BOOST_REQUIRE(after.view()->getEvents().size() == 3u);
}

BOOST_AUTO_TEST_CASE(flush_makes_everything_seen_readable) {
  run_until_executing();
  say(test::guest_output("\x01 not plain"));
  BOOST_TEST(static_cast<bool>(ask<proto::Done>(op, make_frame<proto::FlushOperation>())));
  auto page = events(id);
  BOOST_TEST(page.view()->getEvents().size() == 3u);
  auto record = stored(id);
  BOOST_TEST(record.view()->getResult().getStdout().getKeptBytes() == 11u);
  BOOST_TEST(!record.view()->getResult().getStdout().getPlain());
}

BOOST_AUTO_TEST_CASE(a_flush_waits_for_what_there_was_and_for_no_more) {
  run_until_executing();
  writes->holds_events = true;
  const std::string much(operation_state::flush_bytes, 'x');
  say(test::guest_output(much)); // on its way
  say(test::guest_output("before"));
  auto asked = flush();
  say(test::guest_output(much));
  release(); // the next batch has what was asked for, and more behind it
  BOOST_TEST(!asked->has_value());
  say(test::guest_output(much));
  release();
  BOOST_REQUIRE(asked->has_value());
  BOOST_TEST(asked->value());
  BOOST_TEST(static_cast<bool>(writes->held)); // output goes on
  auto record = stored(id);
  BOOST_TEST(record.view()->getResult().getStdout().getKeptBytes() == much.size() + 6);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_written_is_tried_once_a_while_whatever_comes) {
  run_until_executing();
  writes->fails_events = true;
  const std::string much(operation_state::flush_bytes, 'x');
  say(test::guest_output(much));
  BOOST_TEST(writes->tries == 1);
  for (int i = 0; i < 5; ++i) {
    say(test::guest_output(much));
    advance(operation_state::flush_delay);
  }
  BOOST_TEST(writes->tries == 1);
  advance(operation_state::commit_retry_delay);
  BOOST_TEST(writes->tries == 2);
  writes->fails_events = false;
  advance(operation_state::commit_retry_delay);
  auto answered = flush();
  BOOST_REQUIRE(answered->has_value());
  BOOST_TEST(answered->value());
  BOOST_TEST(events(id).view()->getEvents().size() > 2u);
}

BOOST_AUTO_TEST_CASE(who_waits_for_events_hears_that_the_end_was_given_up) {
  run_until_executing();
  writes->fails_ends = true;
  say(success());
  auto asked = flush();
  for (int i = 1; i < operation_state::commit_tries_max; ++i) {
    BOOST_REQUIRE(!asked->has_value());
    BOOST_REQUIRE(writes->tries == i);
    advance(operation_state::commit_retry_delay);
  }
  BOOST_TEST(writes->tries == operation_state::commit_tries_max);
  BOOST_REQUIRE(asked->has_value());
  BOOST_TEST(!asked->value());
}

BOOST_AUTO_TEST_CASE(no_event_is_written_before_the_record_says_that_the_work_runs) {
  writes->fails_records = true;
  run_until_executing();
  say(test::guest_output("hello"));
  advance(operation_state::flush_delay);
  BOOST_TEST((state() == status::PENDING));
  BOOST_TEST(events(id).view()->getEvents().size() == 0u);
  writes->fails_records = false;
  advance(operation_state::commit_retry_delay);
  BOOST_TEST((state() == status::EXECUTING));
  BOOST_TEST(events(id).view()->getEvents().size() == 3u);
}

BOOST_AUTO_TEST_CASE(a_full_log_says_so_once) {
  run_until_executing();
  const std::string piece(64u << 10, 'z');
  for (std::size_t bytes = 0; bytes <= event_log::log_bytes_max + 10 * piece.size();
       bytes += piece.size()) {
    say(test::guest_output(piece));
  }
  say(test::guest_output("x")); // it would fit, but then there would be a hole
  say(success());
  std::uint64_t next = 0;
  int caps = 0;
  int outputs_behind = 0;
  for (bool is_end = false; !is_end;) {
    auto page = ask<proto::EventPage>(reader, make_frame<proto::ListEvents>([&](auto r) {
                                        id.to(r.initOperation());
                                        r.setFirstId(next);
                                        r.setMaxBytes(4u << 20);
                                      }));
    BOOST_REQUIRE(page);
    auto log = page->view();
    is_end = log->getEvents().size() == 0;
    for (auto e : log->getEvents()) {
      next = e.getId() + 1;
      outputs_behind += caps > 0 && e.isStdout() ? 1 : 0;
      if (e.isSizeCap()) {
        ++caps;
        BOOST_TEST(e.getSpid() == 0u);
        BOOST_TEST(e.getSizeCap().getLimitBytes() == event_log::log_bytes_max);
        BOOST_TEST(e.getSizeCap().getLoggedBytes() <= event_log::log_bytes_max);
      }
    }
  }
  BOOST_TEST(caps == 1);
  BOOST_TEST(outputs_behind == 0);
}

BOOST_AUTO_TEST_CASE(input_that_has_no_room_in_the_log_leaves_a_mark) {
  run_until_executing();
  const std::string piece(1u << 20, 'z');
  for (std::size_t bytes = 0; bytes <= event_log::log_bytes_max + 2 * piece.size();
       bytes += piece.size()) {
    say(make_frame<proto::ProcessReport>([&](auto r) {
      r.setSpid(1);
      r.initStdin().setData({reinterpret_cast<const capnp::byte*>(piece.data()), piece.size()});
    }));
  }
  say(test::guest_output("x")); // it would fit, but then there would be a hole
  say(success());
  auto count = stored(id).view()->getEventCount();
  auto page = ask<proto::EventPage>(reader, make_frame<proto::ListEvents>([&](auto r) {
                                      id.to(r.initOperation());
                                      r.setFirstId(count - 5);
                                      r.setMaxBytes(4u << 20);
                                    }));
  BOOST_REQUIRE(page);
  std::vector<proto::Event::Which> kinds;
  for (auto e : page->view()->getEvents()) {
    kinds.push_back(e.which());
  }
  using enum proto::Event::Which;
  BOOST_TEST((kinds == std::vector{SIZE_CAP, EXIT, TRUNCATED, SHUTDOWN, COMPLETION}));
}

BOOST_AUTO_TEST_SUITE_END()
