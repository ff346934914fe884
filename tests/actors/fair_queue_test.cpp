#include "tests/actors/fair_queue_bench.hpp"

#include <algorithm>
#include <bit>
#include <map>
#include <random>
#include <string>
#include <vector>

using namespace coppice;
using namespace coppice::test;

namespace {

using demand = fair_queue::demand;

} // namespace

BOOST_AUTO_TEST_SUITE(fair_queue_suite)

BOOST_AUTO_TEST_CASE(runs_of_one_project_start_in_order_of_arrival) {
  bench b{one_slot};
  auto first = b.add("a");
  auto second = b.add("a");
  auto third = b.add("a");
  BOOST_TEST((b.grant_all() == std::vector{first}));
  BOOST_TEST(b.queue.remove(first));
  BOOST_TEST((b.grant_all() == std::vector{second}));
  BOOST_TEST(b.queue.remove(second));
  BOOST_TEST((b.grant_all() == std::vector{third}));
}

BOOST_AUTO_TEST_CASE(an_id_is_in_the_queue_once) {
  bench b{one_slot};
  auto id = b.add("a");
  BOOST_TEST(!b.queue.add({id, "b", {1, 100}, 0}));
  BOOST_TEST((b.grant_all() == std::vector{id}));
  BOOST_TEST(!b.queue.add({id, "a", {1, 100}, 0}));
  BOOST_TEST(b.queue.remove(id));
  BOOST_TEST(!b.queue.remove(id));
  BOOST_TEST(b.queue.waiting_count() == 0u);
  BOOST_TEST(b.queue.running_count() == 0u);
}

BOOST_AUTO_TEST_CASE(nothing_starts_beyond_any_part_of_the_capacity) {
  struct row {
    const char* what;
    fair_queue::capacity total;
    std::vector<demand> asked;
    std::size_t granted;
  };
  for (const auto& r : {row{"number", {2, 100, 100}, {{1, 1}, {1, 1}, {1, 1}}, 2},
                        row{"processors", {10, 3, 100}, {{2, 1}, {1, 1}, {1, 1}}, 2},
                        row{"memory", {10, 100, 5}, {{1, 2}, {1, 3}, {1, 1}}, 2},
                        row{"exactly full", {3, 3, 3}, {{1, 1}, {1, 1}, {1, 1}}, 3},
                        row{"no memory counted", {2, 2, 0}, {{1, 0}, {1, 0}}, 2}}) {
    bench b{r.total};
    for (auto needs : r.asked) {
      b.add("a", needs);
    }
    BOOST_TEST(b.grant_all().size() == r.granted, r.what);
  }
}

BOOST_AUTO_TEST_CASE(what_can_never_run_is_told_when_the_capacity_becomes_known) {
  fair_queue queue;
  BOOST_TEST(queue.can_ever_run({64, 1u << 20}));
  queue.add({numbered(1), "a", {1, 100}, 0});
  queue.add({numbered(2), "a", {3, 100}, 0});
  queue.add({numbered(3), "b", {1, 5000}, 0});
  BOOST_TEST(!queue.grant());
  auto never = queue.set_capacity({2, 2, 4000});
  std::sort(never.begin(), never.end());
  BOOST_TEST((never == std::vector{std::pair{numbered(2), demand{3, 100}},
                                   std::pair{numbered(3), demand{1, 5000}}}));
  BOOST_TEST(queue.waiting_count() == 1u);
  BOOST_TEST((queue.grant() == numbered(1)));
  BOOST_TEST(!queue.can_ever_run({3, 100}));
  BOOST_TEST(queue.can_ever_run({2, 4000}));
}

BOOST_AUTO_TEST_CASE(a_project_with_one_run_takes_the_next_slot_while_199_of_another_wait) {
  for (const auto& total : {one_slot, four_slots}) {
    bench b{total};
    std::vector<uuid> many;
    for (int i = 0; i < 199; ++i) {
      many.push_back(b.add("many"));
    }
    auto running = b.grant_all();
    BOOST_TEST(running.size() == total.running);
    auto one = b.add("one");
    BOOST_TEST(b.grant_all().empty());
    b.queue.remove(running.front());
    BOOST_TEST((b.grant_all() == std::vector{one}));
  }
}

BOOST_AUTO_TEST_CASE(projects_hold_equal_shares_of_the_node) {
  bench b{four_slots};
  std::map<uuid, std::string> owner;
  for (int i = 0; i < 100; ++i) {
    owner[b.add("busy")] = "busy";
  }
  for (int i = 0; i < 20; ++i) {
    owner[b.add("calm")] = "calm";
  }
  auto running = b.grant_all();
  for (int i = 0; i < 30; ++i) {
    BOOST_TEST(std::count_if(running.begin(), running.end(),
                             [&](const uuid& id) { return owner[id] == "calm"; }) == 2);
    b.queue.remove(running.front());
    running.erase(running.begin());
    auto next = b.grant_all();
    running.insert(running.end(), next.begin(), next.end());
  }
}

BOOST_AUTO_TEST_CASE(a_share_counts_what_runs_take_not_their_number) {
  bench b{{8, 8, 8000}};
  b.add("large", {4, 100});
  b.add("small", {1, 100});
  b.grant_all();
  b.add("large", {1, 100});
  auto second = b.add("small", {1, 100});
  auto third = b.add("small", {1, 100});
  b.queue.set_capacity({4, 8, 8000}); // two more
  BOOST_TEST((b.grant_all() == std::vector{second, third}));
  // Memory counts as much.
  bench m{{3, 8, 8000}};
  m.add("large", {1, 4000});
  m.add("small", {2, 100});
  m.grant_all();
  m.add("large", {1, 100});
  auto other = m.add("small", {1, 100});
  BOOST_TEST((m.grant_all() == std::vector{other}));
}

BOOST_AUTO_TEST_CASE(with_one_slot_projects_take_turns) {
  bench b{one_slot};
  std::map<uuid, std::string> owner;
  for (int i = 0; i < 3; ++i) {
    owner[b.add("a")] = "a";
  }
  for (int i = 0; i < 3; ++i) {
    owner[b.add("b")] = "b";
  }
  for (int i = 0; i < 3; ++i) {
    owner[b.add("c")] = "c";
  }
  std::string order;
  while (auto id = b.queue.grant()) {
    order += owner[*id];
    b.queue.remove(*id);
  }
  BOOST_TEST(order == "abcabcabc");
}

BOOST_AUTO_TEST_CASE(new_projects_do_not_push_in_front_of_one_that_waits) {
  bench b{one_slot};
  b.queue.remove(b.add("patient"));
  auto served = b.add("patient");
  b.grant_all();
  b.queue.remove(served);
  auto running = b.add("a");
  b.grant_all();
  auto patient = b.add("patient"); // it had a turn before, the fresh ones had none
  auto fresh_name = [](int i) {
    std::string name{"fresh"};
    name += std::to_string(i);
    return name;
  };
  for (int i = 0; i < 5; ++i) {
    b.add(fresh_name(i));
  }
  b.queue.remove(running);
  BOOST_TEST((b.grant_all() == std::vector{patient}));
}

BOOST_AUTO_TEST_CASE(a_higher_priority_starts_sooner_within_its_project_only) {
  bench b{one_slot};
  auto running = b.add("other");
  b.grant_all();
  auto low = b.add("a", {1, 100}, -10);
  auto usual = b.add("a", {1, 100}, 0);
  auto high = b.add("a", {1, 100}, 10);
  auto other = b.add("other", {1, 100}, -10);
  BOOST_TEST((b.queue.position(high) == 1u));
  BOOST_TEST((b.queue.position(usual) == 2u));
  BOOST_TEST((b.queue.position(low) == 3u));
  BOOST_TEST((b.queue.position(other) == 1u));
  std::vector<uuid> order;
  for (auto last = running; order.size() < 4; last = order.back()) {
    b.queue.remove(last);
    auto next = b.grant_all();
    BOOST_TEST_REQUIRE(next.size() == 1u);
    order.push_back(next.front());
  }
  BOOST_TEST((order == std::vector{high, other, usual, low}));
}

BOOST_AUTO_TEST_CASE(the_lowest_priority_starts_after_a_bounded_number_of_grants) {
  bench b{one_slot};
  auto running = b.add("a");
  b.grant_all();
  auto low = b.add("a", {1, 100}, -10);
  std::int64_t grants = 0;
  bool has_started = false;
  while (!has_started && grants < 10'000) {
    b.add("a", {1, 100}, 10); // there is always a newcomer of the highest priority
    b.queue.remove(running);
    auto next = b.grant_all();
    BOOST_TEST_REQUIRE(next.size() == 1u);
    running = next.front();
    has_started = running == low;
    ++grants;
  }
  // Twenty levels apart; the newcomers of that time may all be before it.
  BOOST_TEST(has_started);
  BOOST_TEST(grants > 10 * fair_queue::grants_per_level);
  BOOST_TEST(grants <= 20 * fair_queue::grants_per_level + 1);
}

BOOST_AUTO_TEST_CASE(a_large_run_is_passed_a_few_times_and_then_waited_for) {
  bench b{four_slots};
  std::vector<uuid> running;
  for (int i = 0; i < 4; ++i) {
    b.add("small");
  }
  running = b.grant_all();
  auto large = b.add("large", {4, 100});
  std::size_t passes = 0;
  bool has_started = false;
  for (int i = 0; i < 1000 && !has_started; ++i) {
    b.add("small");
    b.add("small");
    if (!running.empty()) {
      b.queue.remove(running.front());
      running.erase(running.begin());
    }
    for (const auto& id : b.grant_all()) {
      running.push_back(id);
      if (id == large) {
        has_started = true;
      } else {
        ++passes;
      }
    }
  }
  BOOST_TEST(has_started);
  BOOST_TEST(passes == fair_queue::passes_max);
}

BOOST_AUTO_TEST_CASE(a_large_run_that_is_cancelled_holds_nobody_up) {
  bench b{{4, 4, 4000}};
  auto running = b.add("small");
  b.grant_all();
  auto large = b.add("large", {4, 100});
  for (std::uint32_t i = 0; i < fair_queue::passes_max; ++i) {
    auto passing = b.add("small");
    BOOST_TEST((b.grant_all() == std::vector{passing}));
    b.queue.remove(passing);
  }
  auto next = b.add("small");
  BOOST_TEST(b.grant_all().empty());
  b.queue.remove(large);
  BOOST_TEST((b.grant_all() == std::vector{next}));
  BOOST_TEST(b.queue.remove(running));
}

BOOST_AUTO_TEST_CASE(ten_thousand_waiting_runs_cost_a_few_steps_each) {
  // Per call: a few walks down a tree, each as long as the tree is high, and a look at each size.
  auto allowed = [](std::size_t waiting, std::size_t projects) {
    return 12 * (2 * std::bit_width(waiting) + std::bit_width(projects) + 4);
  };
  for (std::size_t projects : {std::size_t{1}, std::size_t{100}, std::size_t{5'000}}) {
    bench b{{64, 64, 64'000}};
    std::vector<uuid> ids;
    std::uint64_t worst = 0;
    auto counted = [&](auto&& call) {
      auto before = b.queue.steps();
      call();
      worst = std::max(worst, b.queue.steps() - before);
    };
    for (std::size_t i = 0; i < 10'000; ++i) {
      counted([&] {
        ids.push_back(b.add("p" + std::to_string(i % projects),
                            {1 + static_cast<std::uint32_t>(i % 2), 100},
                            static_cast<std::int32_t>(i % 21) - 10));
      });
    }
    std::mt19937 random{7};
    std::shuffle(ids.begin(), ids.end(), random);
    std::vector<uuid> running;
    for (const auto& id : ids) {
      counted([&] { b.queue.position(id); });
      counted([&] { b.queue.remove(id); });
      counted([&] { b.queue.grant(); });
    }
    BOOST_TEST(worst > 0u);
    BOOST_TEST(worst <= allowed(10'000, projects), projects << " projects");
    BOOST_TEST(b.queue.waiting_count() == 0u);
    BOOST_TEST(b.queue.project_count() == 0u); // nothing is left of them
  }
}

BOOST_AUTO_TEST_SUITE_END()
