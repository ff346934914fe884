#pragma once

namespace coppice::vmm {

/// The life of one microVM as its supervisor sees it.
enum class machine_state {
  starting, ///< QEMU runs, the agent has not reported or the restore is not complete
  running,  ///< the agent is ready for orders or carries one out
  pausing,  ///< QEMU was told to halt the guest's processors
  paused,   ///< they stand still, the template's state is written if that was asked for
  resuming, ///< QEMU was told to go on
  saving,   ///< QEMU was told to write the guest's state, for a template
  quitting, ///< QEMU was told to close the disk and end
  failed,   ///< the owner was told why; QEMU is being killed
  killed,   ///< by the owner's order or after an overdue quit; QEMU is being killed
  gone,     ///< the process has ended; nothing follows
};

enum class machine_event {
  ready,   ///< the agent's first message, or the restore is complete
  fault,   ///< deadline missed, protocol broken, a channel lost, the guest stopped unasked
  pause,   ///< ordered by the owner
  resume,  ///< ordered by the owner
  save,    ///< ordered by the owner
  obeyed,  ///< QEMU has carried out pause, resume or save
  quit,    ///< ordered by the owner
  overdue, ///< QEMU has not ended in time after quit
  kill,    ///< ordered by the owner
  exit,    ///< the process has ended
};

/// What the supervisor does on a transition. An order that QEMU still has when one of `order_quit`,
/// `kill`, `fail`, `end` or `fail_and_end` comes is answered as a failure with it.
enum class machine_action {
  none,
  announce_ready, ///< tell the owner
  order_pause,    ///< send it, start the timer; the order is answered later
  order_resume,   ///< likewise
  order_save,     ///< likewise
  refuse,         ///< answer the order at once: it does not fit
  answer,         ///< the order is carried out: say so
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

/// The agent has reported and nothing has ended it: what the guest says goes to the owner.
constexpr bool is_live(machine_state state) {
  using s = machine_state;
  return state == s::running || state == s::pausing || state == s::paused || state == s::resuming ||
         state == s::saving;
}

/// Our own orders halt the guest in these states; anywhere else that is QEMU's doing, for an
/// accelerator that could not go on or a disk out of reach.
constexpr bool may_halt(machine_state state) {
  using s = machine_state;
  return state == s::pausing || state == s::paused || state == s::saving || state == s::quitting;
}

/// The part of `next` for a live VM.
constexpr machine_step next_live(machine_state from, machine_event event) {
  using s = machine_state;
  using e = machine_event;
  using a = machine_action;
  switch (event) {
  case e::ready: // an agent reports once: this one was started again
  case e::fault:
    return {s::failed, a::fail};
  case e::pause:
    return from == s::running ? machine_step{s::pausing, a::order_pause}
                              : machine_step{from, a::refuse};
  case e::save:
    return from == s::running ? machine_step{s::saving, a::order_save}
                              : machine_step{from, a::refuse};
  case e::resume:
    return from == s::paused ? machine_step{s::resuming, a::order_resume}
                             : machine_step{from, a::refuse};
  case e::obeyed:
    return from == s::pausing || from == s::saving ? machine_step{s::paused, a::answer}
           : from == s::resuming                   ? machine_step{s::running, a::answer}
                                                   : machine_step{from, a::none};
  case e::quit:
    return {s::quitting, a::order_quit};
  case e::kill:
    return {s::killed, a::kill};
  case e::exit:
    return {s::gone, a::fail_and_end};
  case e::overdue:
    break;
  }
  return {from, a::none};
}

/// Total: every event has a meaning in every state. Keeps machine.hpp's promise on the order of
/// callbacks: out of `starting` leads exactly one announce_ready or fail, `gone` is entered once,
/// always with an end, and every order gets one answer.
constexpr machine_step next(machine_state from, machine_event event) {
  using s = machine_state;
  using e = machine_event;
  using a = machine_action;
  if (is_live(from)) {
    return next_live(from, event);
  }
  if (event == e::pause || event == e::resume || event == e::save) {
    return {from, a::refuse};
  }
  switch (from) {
  case s::starting:
    // Whatever comes before ready is the answer to `start`: it did not become ready. There is no
    // disk to close yet, so an early quit needs no patience.
    return event == e::ready                           ? machine_step{s::running, a::announce_ready}
           : event == e::exit                          ? machine_step{s::gone, a::fail_and_end}
           : event == e::overdue || event == e::obeyed ? machine_step{s::starting, a::none}
                                                       : machine_step{s::failed, a::fail};
  case s::quitting:
    // Channels that close now are the expected end; only time and the owner's patience count.
    return event == e::exit                          ? machine_step{s::gone, a::end}
           : event == e::kill || event == e::overdue ? machine_step{s::killed, a::kill}
                                                     : machine_step{s::quitting, a::none};
  case s::failed:
  case s::killed:
    return event == e::exit ? machine_step{s::gone, a::end} : machine_step{from, a::none};
  default:
    break;
  }
  return {from, a::none};
}

} // namespace coppice::vmm
