#include "actors/pool_plan.hpp"

#include <boost/test/unit_test.hpp>

namespace {

using namespace coppice;
using namespace std::chrono_literals;

constexpr std::uint64_t plenty = 8ull << 30;
const pool_plan::class_key usual{1, 256};
const pool_plan::class_key large{2, 1024};

struct fixture {
  pool_plan plan{{.floor = 1, .ceiling = 4, .memory_kept_free_bytes = 1u << 30}, usual};
  pool_plan::time_point now = pool_plan::time_point{} + 1000s;

  std::size_t wanted(const pool_plan::class_key& of, std::uint64_t free_bytes = plenty,
                     std::uint64_t room_bytes = plenty) {
    auto all = plan.wanted(now, free_bytes, room_bytes);
    auto found = all.find(of);
    return found == all.end() ? 0 : found->second;
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(pool_plan_suite, fixture)

BOOST_AUTO_TEST_CASE(without_demand_the_floor_of_the_usual_class_waits) {
  BOOST_TEST(wanted(usual) == 1u);
  BOOST_TEST(wanted(large) == 0u);
}

BOOST_AUTO_TEST_CASE(as_many_wait_as_were_asked_for_of_late) {
  for (int i = 0; i < 3; ++i) {
    plan.asked(usual, now);
  }
  BOOST_TEST(wanted(usual) == 3u);
  now += pool_plan::window;
  BOOST_TEST(wanted(usual) == 3u);
  now += 1s;
  BOOST_TEST(wanted(usual) == 1u);
}

BOOST_AUTO_TEST_CASE(the_ceiling_is_for_all_classes_together) {
  for (int i = 0; i < 100; ++i) {
    plan.asked(large, now);
  }
  BOOST_TEST(wanted(usual) == 1u);
  BOOST_TEST(wanted(large) == 3u);
  plan.asked(usual, now);
  plan.asked(usual, now);
  BOOST_TEST(wanted(usual) == 2u);
  BOOST_TEST(wanted(large) == 2u);
}

BOOST_AUTO_TEST_CASE(none_wait_while_memory_is_short) {
  plan.asked(usual, now);
  BOOST_TEST(wanted(usual, (1u << 30) - 1) == 0u);
  BOOST_TEST(wanted(usual, 1u << 30) == 1u);
}

BOOST_AUTO_TEST_CASE(those_that_run_leave_room_for_so_many) {
  const auto each = pool_plan::waiting_bytes;
  for (int i = 0; i < 2; ++i) {
    plan.asked(usual, now);
    plan.asked(large, now);
  }
  const struct {
    std::uint64_t room_bytes;
    std::size_t usual_wait;
    std::size_t large_wait;
  } rows[] = {{plenty, 2, 2},   {4 * each, 2, 2}, {4 * each - 1, 2, 1},
              {3 * each, 2, 1}, {2 * each, 2, 0}, {2 * each - 1, 1, 0},
              {each, 1, 0},     {each - 1, 0, 0}, {0, 0, 0}};
  for (const auto& r : rows) {
    BOOST_TEST(wanted(usual, plenty, r.room_bytes) == r.usual_wait, r.room_bytes);
    BOOST_TEST(wanted(large, plenty, r.room_bytes) == r.large_wait, r.room_bytes);
    BOOST_TEST((r.usual_wait + r.large_wait) * each <= r.room_bytes);
  }
}

BOOST_AUTO_TEST_CASE(a_ceiling_of_nothing_is_obeyed) {
  plan = pool_plan{{.floor = 1, .ceiling = 0, .memory_kept_free_bytes = 0}, usual};
  plan.asked(usual, now);
  BOOST_TEST(wanted(usual) == 0u);
}

BOOST_AUTO_TEST_CASE(failures_in_a_row_are_waited_out_longer_and_longer_up_to_a_limit) {
  auto pause = [&] {
    plan.failed(now);
    return plan.not_before() - now;
  };
  BOOST_TEST((pause() == 1s));
  BOOST_TEST((pause() == 2s));
  BOOST_TEST((pause() == 4s));
  for (int i = 0; i < 100; ++i) {
    plan.failed(now);
  }
  BOOST_TEST((pause() == pool_plan::pause_max));
  plan.succeeded();
  BOOST_TEST((pause() == 1s));
}

BOOST_AUTO_TEST_SUITE_END()
