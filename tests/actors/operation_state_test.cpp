#include "actors/operation_state.hpp"

#include <boost/test/unit_test.hpp>

#include <array>
#include <map>
#include <utility>

namespace {

using coppice::next;
using coppice::operation_event;
using status = coppice::proto::OperationStatus;

constexpr std::array all_states{status::PENDING, status::ASSIGNED, status::EXECUTING,
                                status::SUCCESS, status::FAILED,   status::CANCELLED};
constexpr std::array all_events{operation_event::slot_granted, operation_event::process_started,
                                operation_event::succeeded, operation_event::failed,
                                operation_event::cancelled};

} // namespace

BOOST_AUTO_TEST_SUITE(operation_state)

BOOST_AUTO_TEST_CASE(every_pair_of_state_and_event_is_decided_by_the_table) {
  const std::map<std::pair<status, operation_event>, status> table{
      {{status::PENDING, operation_event::slot_granted}, status::ASSIGNED},
      {{status::PENDING, operation_event::failed}, status::FAILED},
      {{status::PENDING, operation_event::cancelled}, status::CANCELLED},
      {{status::ASSIGNED, operation_event::process_started}, status::EXECUTING},
      {{status::ASSIGNED, operation_event::succeeded}, status::SUCCESS},
      {{status::ASSIGNED, operation_event::failed}, status::FAILED},
      {{status::ASSIGNED, operation_event::cancelled}, status::CANCELLED},
      {{status::EXECUTING, operation_event::succeeded}, status::SUCCESS},
      {{status::EXECUTING, operation_event::failed}, status::FAILED},
      {{status::EXECUTING, operation_event::cancelled}, status::CANCELLED},
  };
  for (auto from : all_states) {
    for (auto event : all_events) {
      BOOST_TEST_CONTEXT("state " << static_cast<int>(from) << " event "
                                  << static_cast<int>(event)) {
        auto it = table.find({from, event});
        auto to = next(from, event);
        BOOST_TEST(to.has_value() == (it != table.end()));
        if (to && it != table.end()) {
          BOOST_TEST(static_cast<int>(*to) == static_cast<int>(it->second));
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(terminal_states_are_final) {
  for (auto from : {status::SUCCESS, status::FAILED, status::CANCELLED}) {
    BOOST_TEST(coppice::is_terminal(from));
    for (auto event : all_events) {
      BOOST_TEST(!next(from, event));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
