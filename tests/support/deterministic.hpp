#pragma once

#include "actors/interfaces.hpp"
#include "actors/type_ids.hpp"

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/stateful_actor.hpp>

#include <boost/test/unit_test.hpp>

#include <chrono>
#include <functional>
#include <string>

namespace coppice::test {

/// An actor system without threads and with virtual time: messages are handled one by one when the
/// test says so, timers fire when the test moves the clock.
struct deterministic {
  struct config : caf::actor_system_config {
    config() {
      add_message_types<caf::id_block::coppice>();
      set("scheduler.policy", caf::atom("testing"));
    }
  };

  config cfg;
  caf::actor_system sys{cfg};
  caf::scheduler::test_coordinator& sched =
      dynamic_cast<caf::scheduler::test_coordinator&>(sys.scheduler());
  caf::scoped_actor self{sys, true};

  ~deterministic() {
    drain();
  }

  /// Handles messages until none is left.
  void drain() {
    while (sched.try_run_once()) {
      // nop
    }
  }

  /// Moves the clock, fires what is due, handles what follows.
  void advance(caf::timespan by) {
    sched.advance_time(by);
    drain();
  }

  /// Asks and waits for the answer, which must come without time passing.
  template <class Answer, class Handle, class Request>
  caf::expected<frame<Answer>> ask(const Handle& handle, const frame<Request>& request) {
    auto pending = self->request(handle, caf::infinite, request);
    drain();
    caf::expected<frame<Answer>> out{caf::error{}};
    pending.receive([&](frame<Answer>& answer) { out = std::move(answer); },
                    [&](caf::error& error) { out = std::move(error); });
    return out;
  }

  /// Asks in the background; `then` gets whether it was answered, when it is.
  template <class Answer, class Handle, class Request>
  void ask_later(const Handle& handle, const frame<Request>& request,
                 std::function<void(bool)> then) {
    sys.spawn([handle, request, then](caf::event_based_actor* asker) {
      asker->request(handle, caf::infinite, request)
          .then([then](const frame<Answer>&) { then(true); },
                [then](const caf::error&) { then(false); });
    });
  }

  template <class State, class Handle>
  static State& state_of(const Handle& handle) {
    using base = typename Handle::base;
    return dynamic_cast<caf::stateful_actor<State, base>&>(
               *caf::actor_cast<caf::abstract_actor*>(handle))
        .state;
  }
};

/// Whether an answer is our error with that code; says what came instead.
template <class T>
boost::test_tools::predicate_result fails_with(const caf::expected<T>& answer, ec code) {
  if (answer) {
    boost::test_tools::predicate_result no{false};
    no.message() << "an answer came instead of the error " << to_string(code);
    return no;
  }
  if (code_of(answer.error()) != code) {
    boost::test_tools::predicate_result no{false};
    no.message() << "the error is " << to_string(code_of(answer.error())) << ": "
                 << text_of(answer.error());
    return no;
  }
  return true;
}

} // namespace coppice::test
