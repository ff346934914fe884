#pragma once

#include <string_view>

namespace coppice::vmm {

/// The life of one microVM as its supervisor sees it.
enum class machine_state {
  starting, ///< QEMU runs, the agent has not reported
  running,  ///< the agent is ready for orders or carries one out
  quitting, ///< QEMU was told to close the disk and end
  failed,   ///< the owner was told why; QEMU is being killed
  killed,   ///< by the owner's order or after an overdue quit; QEMU is being killed
  gone,     ///< the process has ended; nothing follows
};

enum class machine_event {
  ready,   ///< the agent's first message
  fault,   ///< deadline missed, protocol broken, a channel lost, the guest stopped
  quit,    ///< ordered by the owner
  overdue, ///< QEMU has not ended in time after quit
  kill,    ///< ordered by the owner
  exit,    ///< the process has ended
};

/// What the supervisor does on a transition.
enum class machine_action {
  none,
  announce_ready, ///< tell the owner
  order_quit,     ///< send QMP quit, start the timer
  kill,           ///< SIGKILL
  fail,           ///< tell the owner why, then SIGKILL
  end,            ///< tell the owner that it is gone
  fail_and_end,   ///< tell why, then that it is gone
};

struct machine_step {
  machine_state to;
  machine_action act;

  friend constexpr bool operator==(const machine_step&, const machine_step&) = default;
};

/// Total: every event has a meaning in every state. Keeps machine.hpp's promise on the order of
/// callbacks: out of `starting` leads exactly one announce_ready or fail, and `gone` is entered
/// once, always with an end.
constexpr machine_step next(machine_state from, machine_event event) {
  using s = machine_state;
  using a = machine_action;
  if (event == machine_event::exit) {
    switch (from) {
    case s::starting:
    case s::running:
      return {s::gone, a::fail_and_end};
    case s::quitting:
    case s::failed:
    case s::killed:
      return {s::gone, a::end};
    case s::gone:
      break;
    }
    return {s::gone, a::none};
  }
  switch (from) {
  case s::starting:
    // Whatever comes before ready is the answer to `start`: it did not become ready. There is no
    // disk to close yet, so an early quit needs no patience.
    return event == machine_event::ready     ? machine_step{s::running, a::announce_ready}
           : event == machine_event::overdue ? machine_step{s::starting, a::none}
                                             : machine_step{s::failed, a::fail};
  case s::running:
    switch (event) {
    case machine_event::ready: // an agent reports once: this one was started again
    case machine_event::fault:
      return {s::failed, a::fail};
    case machine_event::quit:
      return {s::quitting, a::order_quit};
    case machine_event::kill:
      return {s::killed, a::kill};
    case machine_event::overdue:
    case machine_event::exit:
      break;
    }
    return {s::running, a::none};
  case s::quitting:
    // Channels that close now are the expected end; only time and the owner's patience count.
    return event == machine_event::kill || event == machine_event::overdue
               ? machine_step{s::killed, a::kill}
               : machine_step{s::quitting, a::none};
  case s::failed:
  case s::killed:
  case s::gone:
    break;
  }
  return {from, a::none};
}

} // namespace coppice::vmm
