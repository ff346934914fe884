#include "actors/event_log.hpp"
#include "actors/output_meter.hpp"

#include <boost/test/unit_test.hpp>

#include <string>
#include <string_view>

namespace {

using coppice::event_log;

std::span<const unsigned char> bytes(std::string_view text) {
  return {reinterpret_cast<const unsigned char*>(text.data()), text.size()};
}

void note(event_log& log) {
  log.add(0, 1, [](auto e) { e.initShutdown(); });
}

} // namespace

BOOST_AUTO_TEST_SUITE(event_log_suite)

BOOST_AUTO_TEST_CASE(ids_are_consecutive_from_the_given_first_one) {
  event_log log{7};
  note(log);
  BOOST_TEST(log.add_output(1, false, bytes("a"), 1));
  note(log);
  BOOST_TEST(log.next_id() == 10u);
  std::uint64_t expected = 7;
  for (const auto& e : log.take()) {
    BOOST_TEST(e.view()->getId() == expected++);
  }
  BOOST_TEST(expected == 10u);
}

BOOST_AUTO_TEST_CASE(output_of_one_stream_in_a_row_is_one_event) {
  event_log log;
  for (int i = 0; i < 100; ++i) {
    BOOST_TEST(log.add_output(1, false, bytes("x"), 1));
  }
  BOOST_TEST(log.add_output(1, true, bytes("e"), 1));
  BOOST_TEST(log.add_output(1, false, bytes("y"), 1));
  const auto& batch = log.take();
  BOOST_REQUIRE(batch.size() == 3u);
  BOOST_TEST(batch[0].view()->getStdout().size() == 100u);
  BOOST_TEST(batch[1].view()->isStderr());
  BOOST_TEST(batch[2].view()->getStdout().size() == 1u);
}

BOOST_AUTO_TEST_CASE(one_event_holds_no_more_output_than_its_limit) {
  event_log log;
  const std::string piece(32u << 10, 'z');
  for (int i = 0; i < 5; ++i) {
    BOOST_TEST(log.add_output(1, false, bytes(piece), 1));
  }
  BOOST_TEST(log.take().size() == 3u);
}

BOOST_AUTO_TEST_CASE(a_failed_batch_waits_again_in_front) {
  event_log log;
  note(log);
  note(log);
  log.take();
  note(log);
  log.taken_failed();
  BOOST_TEST(log.has_waiting());
  std::uint64_t expected = 0;
  for (const auto& e : log.take()) {
    BOOST_TEST(e.view()->getId() == expected++);
  }
  BOOST_TEST(expected == 3u);
  log.taken_is_durable();
  BOOST_TEST(!log.has_waiting());
  BOOST_TEST(log.waiting_bytes() == 0u);
}

BOOST_AUTO_TEST_CASE(only_what_was_written_counts_as_durable) {
  event_log log{5};
  BOOST_TEST(log.durable_count() == 5u);
  note(log);
  note(log);
  log.take();
  note(log);
  log.taken_failed();
  BOOST_TEST(log.durable_count() == 5u);
  log.take();
  BOOST_TEST(log.durable_count() == 5u);
  log.taken_is_durable();
  BOOST_TEST(log.durable_count() == 8u);
}

BOOST_AUTO_TEST_CASE(a_full_log_refuses_output_and_still_takes_events) {
  event_log log;
  const std::string piece(64u << 10, 'z');
  std::size_t kept = 0;
  while (log.add_output(1, false, bytes(piece), 1)) {
    kept += piece.size();
    BOOST_REQUIRE(kept <= event_log::log_bytes_max);
  }
  BOOST_TEST(kept > event_log::log_bytes_max / 2);
  BOOST_TEST(log.is_full());
  BOOST_TEST(!log.add_output(1, false, bytes("x"), 1)); // it would fit, behind a hole
  note(log);
  BOOST_TEST(log.take().back().view()->isShutdown());
}

BOOST_AUTO_TEST_CASE(input_that_has_no_room_fills_the_log_for_good) {
  event_log log;
  auto add = [&](std::size_t size) {
    return log.add_sized(1, 1, size, [](auto e) { e.initStdin(); });
  };
  BOOST_TEST(add(event_log::log_bytes_max / 2));
  BOOST_TEST(!log.is_full());
  BOOST_TEST(!add(event_log::log_bytes_max));
  BOOST_TEST(log.is_full());
  BOOST_TEST(!add(1)); // it would fit, behind a hole
  BOOST_TEST(!log.add_output(1, false, bytes("x"), 1));
  BOOST_TEST(log.take().size() == 1u);
}

BOOST_AUTO_TEST_CASE(single_bytes_in_turn_cannot_fill_memory) {
  event_log log;
  std::size_t events = 0;
  while (log.add_output(1, events % 2 == 0, bytes("x"), 1)) {
    ++events;
    BOOST_REQUIRE(events <= event_log::log_bytes_max / event_log::event_cost_bytes);
  }
  BOOST_TEST(events > 1000u);
}

BOOST_AUTO_TEST_CASE(meter_keeps_the_first_bytes_and_counts_all) {
  coppice::output_meter meter{10};
  BOOST_TEST(meter.take(4) == 4u);
  BOOST_TEST(meter.take(9) == 6u);
  BOOST_TEST(meter.take(5) == 0u);
  BOOST_TEST(meter.kept_bytes() == 10u);
  BOOST_TEST(meter.total_bytes(0) == 18u);
  BOOST_TEST(meter.total_bytes(100) == 100u);
}

BOOST_AUTO_TEST_SUITE_END()
