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

const s states[] = {s::starting, s::running,  s::pausing, s::paused, s::resuming,
                    s::saving,   s::quitting, s::failed,  s::killed, s::gone};
const e events[] = {e::ready,  e::fault, e::pause,   e::resume, e::save,
                    e::obeyed, e::quit,  e::overdue, e::kill,   e::exit};
const s live[] = {s::running, s::pausing, s::paused, s::resuming, s::saving};

/// Everything that is not "stay and do nothing" or, for an order, "stay and refuse".
std::map<std::pair<s, e>, machine_step> make_table() {
  std::map<std::pair<s, e>, machine_step> out{
      {{s::starting, e::ready}, {s::running, a::announce_ready}},
      {{s::starting, e::fault}, {s::failed, a::fail}},
      {{s::starting, e::quit}, {s::failed, a::fail}},
      {{s::starting, e::kill}, {s::failed, a::fail}},
      {{s::starting, e::exit}, {s::gone, a::fail_and_end}},
      {{s::running, e::pause}, {s::pausing, a::order_pause}},
      {{s::running, e::save}, {s::saving, a::order_save}},
      {{s::pausing, e::obeyed}, {s::paused, a::answer}},
      {{s::saving, e::obeyed}, {s::paused, a::answer}},
      {{s::paused, e::resume}, {s::resuming, a::order_resume}},
      {{s::resuming, e::obeyed}, {s::running, a::answer}},
      {{s::quitting, e::overdue}, {s::killed, a::kill}},
      {{s::quitting, e::kill}, {s::killed, a::kill}},
      {{s::quitting, e::exit}, {s::gone, a::end}},
      {{s::failed, e::exit}, {s::gone, a::end}},
      {{s::killed, e::exit}, {s::gone, a::end}},
  };
  for (auto from : live) {
    out[{from, e::ready}] = {s::failed, a::fail};
    out[{from, e::fault}] = {s::failed, a::fail};
    out[{from, e::quit}] = {s::quitting, a::order_quit};
    out[{from, e::kill}] = {s::killed, a::kill};
    out[{from, e::exit}] = {s::gone, a::fail_and_end};
  }
  return out;
}

const auto table = make_table();

bool is_order(e event) {
  return event == e::pause || event == e::resume || event == e::save;
}

bool takes_order(a act) {
  return act == a::order_pause || act == a::order_resume || act == a::order_save;
}

/// The supervisor answers an order on these.
bool answers(a act) {
  return act == a::answer || act == a::order_quit || act == a::kill || act == a::fail ||
         act == a::end || act == a::fail_and_end;
}

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
      auto expected = row != table.end() ? row->second
                      : is_order(event)  ? machine_step{from, a::refuse}
                                         : machine_step{from, a::none};
      BOOST_TEST((next(from, event) == expected),
                 "state " << static_cast<int>(from) << " event " << static_cast<int>(event));
    }
  }
}

BOOST_AUTO_TEST_CASE(no_sequence_of_events_breaks_the_promise_on_callbacks) {
  // Walks every reachable (state, ready said, failed said, gone said, an order is open).
  using node = std::tuple<s, bool, bool, bool, bool>;
  std::set<node> seen;
  std::vector<node> todo{{s::starting, false, false, false, false}};
  while (!todo.empty()) {
    auto [from, ready, failed, gone, open] = todo.back();
    todo.pop_back();
    if (!seen.insert({from, ready, failed, gone, open}).second) {
      continue;
    }
    BOOST_TEST((from == s::gone) == gone);
    BOOST_TEST((from != s::starting || (!ready && !failed)));
    BOOST_TEST((from == s::starting || ready || failed)); // one of them has come
    // An order is open just where QEMU is busy with it.
    BOOST_TEST((from == s::pausing || from == s::resuming || from == s::saving) == open);
    for (auto event : events) {
      auto step = next(from, event);
      BOOST_TEST(!(step.act == a::announce_ready && (ready || failed || gone)));
      BOOST_TEST(!(fails(step.act) && (failed || gone)));
      BOOST_TEST(!(ends(step.act) && gone));
      BOOST_TEST(!(takes_order(step.act) && open));
      BOOST_TEST(!(step.act == a::refuse && !is_order(event)));
      BOOST_TEST(!(step.act == a::answer && !open));
      todo.emplace_back(step.to, ready || step.act == a::announce_ready, failed || fails(step.act),
                        gone || ends(step.act),
                        takes_order(step.act) || (open && !answers(step.act)));
    }
  }
  BOOST_TEST(seen.size() >= 10u);
}
