#include "actors/process_table.hpp"

#include "actors/error.hpp"
#include "actors/stdin_queue.hpp"

#include <boost/test/unit_test.hpp>

#include <string>
#include <tuple>

using namespace coppice;

namespace {

frame<proto::ProcessOrder> exec_with(std::size_t stdin_bytes) {
  return make_frame<proto::ProcessOrder>([&](auto root) {
    auto exec = root.initExec();
    exec.initProcess().setCommand("cat");
    exec.initStdin(static_cast<capnp::uint>(stdin_bytes));
  });
}

template <class T>
ec why(const caf::expected<T>& answer) {
  return answer ? ec::none : code_of(answer.error());
}

struct fixture {
  process_table table;

  fixture() {
    table.begin(100, 0, false);
  }

  std::uint32_t add(std::size_t stdin_bytes = 0) {
    auto added = table.add(exec_with(stdin_bytes));
    BOOST_REQUIRE(added);
    table.find(*added)->runs = true;
    return *added;
  }
};

capnp::Data::Reader data_of(const std::string& text) {
  return {reinterpret_cast<const capnp::byte*>(text.data()), text.size()};
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(process_table_suite, fixture)

BOOST_AUTO_TEST_CASE(a_spid_is_given_once_and_what_was_never_given_is_not_found) {
  BOOST_TEST(add() == 2u);
  BOOST_TEST(add() == 3u);
  table.remove(3);
  BOOST_TEST(add() == 4u);
  BOOST_TEST((why(table.running(2)) == ec::none));
  BOOST_TEST((why(table.running(3)) == ec::conflict));
  BOOST_TEST((why(table.running(0)) == ec::not_found));
  BOOST_TEST((why(table.running(5)) == ec::not_found));
  BOOST_TEST((why(table.running(1)) == ec::not_found)); // the guest has not said that it runs
  auto waiting = table.add(exec_with(0));
  BOOST_TEST((why(table.running(*waiting)) == ec::not_found)); // nobody was told this number
}

BOOST_AUTO_TEST_CASE(only_so_many_live_and_only_so_many_ever_lived) {
  for (std::size_t i = 0; i < process_table::beside_max; ++i) {
    add();
  }
  BOOST_TEST((why(table.add(exec_with(0))) == ec::busy));
  table.remove(7);
  BOOST_TEST(add() == process_table::beside_max + 2);
  table.begin(100, 0, true);
  for (std::uint32_t spid = 2; spid <= process_table::spid_max; ++spid) {
    table.remove(add());
  }
  BOOST_TEST((why(table.add(exec_with(0))) == ec::conflict)); // for good: nobody is to try again
}

BOOST_AUTO_TEST_CASE(input_that_waits_is_bounded_for_each_and_for_all) {
  auto one = add(limits::stdin_bytes_max);
  auto& input = table.find(one)->input;
  BOOST_TEST((code_of(*table.refusal_of_input(input, 1)) == ec::busy));
  BOOST_TEST(!table.refusal_of_input(input, 0));
  auto other = add(limits::stdin_bytes_max);
  BOOST_TEST((why(table.add(exec_with(1))) == ec::busy));
  BOOST_TEST((why(table.add(exec_with(0))) == ec::none));
  table.find(other)->input.taken(10, false);
  BOOST_TEST((why(table.add(exec_with(10))) == ec::none));
  BOOST_TEST((why(table.add(exec_with(1))) == ec::busy));
  table.remove(one);
  BOOST_TEST((why(table.add(exec_with(1))) == ec::none));
  process_input fresh;
  BOOST_TEST(
      (code_of(*table.refusal_of_input(fresh, limits::stdin_bytes_max + 1)) == ec::too_large));
}

BOOST_AUTO_TEST_CASE(what_a_guest_says_of_input_cannot_make_it_more_or_less_than_it_is) {
  process_input input;
  input.give(100, false);
  input.taken(UINT64_MAX, false);
  BOOST_TEST(input.held_bytes() == 0u);
  input.give(50, false);
  input.taken(20, false);
  BOOST_TEST(input.held_bytes() == 50u);
  BOOST_TEST(!input.is_closed());
  input.taken(0, true);
  BOOST_TEST(input.held_bytes() == 0u);
  BOOST_TEST(input.is_closed());
}

BOOST_AUTO_TEST_CASE(input_goes_out_in_order_a_piece_at_a_time_and_not_to_the_dead) {
  stdin_queue queue;
  std::string large(limits::transfer_chunk_bytes + 1, 'x');
  queue.add(2, {}, data_of(large), false);
  queue.add(3, {}, data_of("three"), true);
  queue.add(4, {}, data_of(""), false); // says nothing
  queue.add(2, {}, data_of(""), true);
  auto next = [&] {
    auto piece = queue.next(9);
    BOOST_REQUIRE(piece.has_value());
    BOOST_TEST(!queue.next(9).has_value());
    queue.sent();
    auto view = piece->view();
    BOOST_TEST(view->getRun() == 9u);
    return std::tuple{view->getStdin().getSpid(), view->getStdin().getData().size(),
                      view->getStdin().getClose()};
  };
  BOOST_TEST((next() == std::tuple{2u, limits::transfer_chunk_bytes, false}));
  BOOST_TEST((next() == std::tuple{2u, std::size_t{1}, false}));
  queue.drop(3);
  BOOST_TEST((next() == std::tuple{2u, std::size_t{0}, true}));
  BOOST_TEST(!queue.next(9).has_value());
}

BOOST_AUTO_TEST_CASE(input_that_waits_is_bounded_by_what_it_costs) {
  stdin_queue queue;
  auto large = exec_with(limits::stdin_bytes_max);
  auto large_view = large.view();
  auto large_data = large_view->getExec().getStdin();
  queue.add(2, large, large_data, false);
  queue.add(3, large, large_data, false);
  BOOST_TEST(!queue.has_room_for(large));
  auto small = exec_with(1);
  auto small_view = small.view();
  auto small_data = small_view->getExec().getStdin();
  std::size_t entries = 0;
  for (; queue.has_room_for(small); ++entries) {
    BOOST_REQUIRE(entries <= stdin_queue::waiting_bytes_max / stdin_queue::entry_cost_bytes);
    queue.add(4, small, small_data, false);
  }
  queue.drop(2);
  BOOST_TEST(queue.has_room_for(large));
  queue.drop(3);
  // What has gone out costs nothing any more.
  for (; entries > 0; --entries) {
    BOOST_REQUIRE(queue.next(1).has_value());
    queue.sent();
  }
  for (std::uint32_t spid : {5u, 6u}) {
    BOOST_TEST(queue.has_room_for(large));
    queue.add(spid, large, large_data, false);
  }
  BOOST_TEST(!queue.has_room_for(large));
  queue.clear();
  BOOST_TEST(queue.has_room_for(large));
}

BOOST_AUTO_TEST_SUITE_END()
