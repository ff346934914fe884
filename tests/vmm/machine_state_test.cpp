#define BOOST_TEST_MODULE vmm_machine_state
#include <boost/test/unit_test.hpp>

#include "vmm/machine_state.hpp"

#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

using coppice::vmm::machine_step;
using s = coppice::vmm::machine_state;
using e = coppice::vmm::machine_event;
using a = coppice::vmm::machine_action;

namespace {

const s states[] = {s::starting, s::running, s::quitting, s::failed, s::killed, s::gone};
const e events[] = {e::ready, e::fault, e::quit, e::overdue, e::kill, e::exit};

/// Everything that is not "stay and do nothing".
const std::map<std::pair<s, e>, machine_step> table{
    {{s::starting, e::ready}, {s::running, a::announce_ready}},
    {{s::starting, e::fault}, {s::failed, a::fail}},
    {{s::starting, e::quit}, {s::failed, a::fail}},
    {{s::starting, e::kill}, {s::failed, a::fail}},
    {{s::starting, e::exit}, {s::gone, a::fail_and_end}},
    {{s::running, e::ready}, {s::failed, a::fail}},
    {{s::running, e::fault}, {s::failed, a::fail}},
    {{s::running, e::quit}, {s::quitting, a::order_quit}},
    {{s::running, e::kill}, {s::killed, a::kill}},
    {{s::running, e::exit}, {s::gone, a::fail_and_end}},
    {{s::quitting, e::overdue}, {s::killed, a::kill}},
    {{s::quitting, e::kill}, {s::killed, a::kill}},
    {{s::quitting, e::exit}, {s::gone, a::end}},
    {{s::failed, e::exit}, {s::gone, a::end}},
    {{s::killed, e::exit}, {s::gone, a::end}},
};

bool fails(a act) {
  return act == a::fail || act == a::fail_and_end;
}

bool ends(a act) {
  return act == a::end || act == a::fail_and_end;
}

} // namespace

BOOST_AUTO_TEST_CASE(every_event_in_every_state_does_what_the_table_says) {
  for (auto from : states) {
    for (auto event : events) {
      auto row = table.find({from, event});
      auto expected = row != table.end() ? row->second : machine_step{from, a::none};
      BOOST_TEST((next(from, event) == expected),
                 "state " << static_cast<int>(from) << " event " << static_cast<int>(event));
    }
  }
}

BOOST_AUTO_TEST_CASE(no_sequence_of_events_breaks_the_promise_on_callbacks) {
  // Walks every reachable (state, ready said, failed said, gone said).
  using node = std::tuple<s, bool, bool, bool>;
  std::set<node> seen;
  std::vector<node> todo{{s::starting, false, false, false}};
  while (!todo.empty()) {
    auto [from, ready, failed, gone] = todo.back();
    todo.pop_back();
    if (!seen.insert({from, ready, failed, gone}).second) {
      continue;
    }
    BOOST_TEST((from == s::gone) == gone);
    BOOST_TEST((from != s::starting || (!ready && !failed)));
    BOOST_TEST((from == s::starting || ready || failed)); // one of them has come
    for (auto event : events) {
      auto step = next(from, event);
      BOOST_TEST(!(step.act == a::announce_ready && (ready || failed || gone)));
      BOOST_TEST(!(fails(step.act) && (failed || gone)));
      BOOST_TEST(!(ends(step.act) && gone));
      todo.emplace_back(step.to, ready || step.act == a::announce_ready, failed || fails(step.act),
                        gone || ends(step.act));
    }
  }
  BOOST_TEST(seen.size() >= 6u);
}
