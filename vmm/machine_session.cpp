#include "vmm/machine_session.hpp"

#include "vmm/template.hpp"

#include <cstring>

namespace coppice::vmm {

namespace {

namespace asio = boost::asio;

constexpr std::size_t console_bytes_max = 16u << 10;
constexpr std::size_t console_lines_shown = 20;
constexpr std::size_t qemu_lines_shown = 6;
// QEMU's sockets close when it ends: this long to learn how it ended before that is a fault.
constexpr std::chrono::seconds exit_grace{2};

// Nothing of a guest was used before its agent is ready.
constexpr unsigned boots_max = 4;

/// What Linux says when it gives up the timer of its local APIC (arch/x86/kernel/apic/apic.c).
bool tells_of_lost_timer(std::string_view console) {
  return console.find("APIC frequency too slow") != console.npos ||
         console.find("APIC timer disabled") != console.npos;
}

// Memory is a file that both sides map: it is left out of the stream. Events tell of the progress.
constexpr const char* share_memory =
    R"({"execute":"migrate-set-capabilities","arguments":{"capabilities":[)"
    R"({"capability":"x-ignore-shared","state":true},{"capability":"events","state":true}]}})";

std::string describe(const child_exit& how) {
  if (how.signal >= 0) {
    const char* name = ::sigabbrev_np(how.signal);
    return "QEMU was ended by signal " + std::to_string(how.signal) +
           (name != nullptr ? std::string{" (SIG"} + name + ")" : std::string{});
  }
  return "QEMU ended with status " + std::to_string(how.code);
}

std::string seconds_text(std::chrono::milliseconds time) {
  const auto tenths = time.count() / 100;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " s";
}

} // namespace

machine_session::machine_session(event_loop& loop, const machine_options& options, int state_file,
                                 unique_fd save_to, machine::callbacks on)
    : loop_{loop}, options_{options}, state_file_{state_file}, save_to_{std::move(save_to)},
      on_{std::move(on)}, timer_{loop.context()} {}

void machine_session::make_channels(unique_fd console, unique_fd qmp, unique_fd agent) {
  auto weakly = [self = weak_from_this()](auto action) {
    return [self, action](auto&&... arguments) {
      if (auto alive = self.lock()) {
        action(*alive, std::forward<decltype(arguments)>(arguments)...);
      }
    };
  };
  console_ = std::make_shared<tail_reader>(loop_.context(), std::move(console), console_bytes_max);
  qmp_ = std::make_shared<qmp_client>(
      loop_.context(), std::move(qmp),
      qmp_client::handlers{
          weakly([](machine_session& s, const qmp_message& event) { s.take_event(event); }),
          weakly([](machine_session& s, const std::string& why) {
            s.handle(machine_event::fault, why);
          }),
          weakly([](machine_session& s) { s.expect_exit("QEMU's control socket closed"); })});
  channel_ = std::make_shared<guest_channel>(
      loop_.context(), std::move(agent),
      guest_channel::bounds{machine::queue_bytes_max, machine::unread_bytes_max},
      guest_channel::handlers{
          weakly([](machine_session& s, frame<proto::FromGuest> message) {
            s.take(std::move(message));
          }),
          weakly([](machine_session& s, const std::string& why) {
            s.handle(machine_event::fault, "the guest broke the protocol: " + why);
          }),
          weakly([](machine_session& s) { s.expect_exit("the guest's channel closed"); }),
          weakly([](machine_session& s) { s.say_writable(); })});
}

void machine_session::begin(std::weak_ptr<child_process> process) {
  process_ = std::move(process);
  if (state_ != machine_state::starting) {
    kill_process(); // ordered before the loop came to it
    return;
  }
  if (options_.from) {
    console_->start();
  } else {
    console_->start([self = weak_from_this()] {
      if (auto alive = self.lock()) {
        alive->boots_anew();
      }
    });
  }
  qmp_->start();
  channel_->start();
  if (options_.from) {
    return restore();
  }
  arm(options_.boot_timeout, machine_event::fault,
      "the guest's agent did not report ready within " + seconds_text(options_.boot_timeout));
}

/// Where there is no deadline timer, as under TCG, a kernel measures the rate of its local APIC in
/// a tenth of a second of the host's time. If QEMU gets no processor in that time the kernel gives
/// the timer up, has no other, and sleeps for ever at its first wait. So it is started again.
bool machine_session::boots_anew() {
  if (state_ != machine_state::starting || !tells_of_lost_timer(console_->text())) {
    return false;
  }
  if (boots_ == boots_max) {
    handle(machine_event::fault, "the guest's kernel lost its timer at each of " +
                                     std::to_string(boots_max) +
                                     " boots: the host has too little processor time to spare");
    return true;
  }
  ++boots_;
  console_->forget();
  // A guest that resets itself ends QEMU (-no-reboot), and so would this.
  qmp_->order(R"({"execute":"set-action","arguments":{"reboot":"reset"}})", [] {});
  qmp_->order(R"({"execute":"system_reset"})", [] {});
  qmp_->order(R"({"execute":"set-action","arguments":{"reboot":"shutdown"}})", [] {});
  return true;
}

void machine_session::restore() {
  arm(options_.restore_timeout, machine_event::fault,
      "the guest was not restored within " + seconds_text(options_.restore_timeout));
  qmp_->order(share_memory, [] {});
  qmp_->order(R"({"execute":"migrate-incoming","arguments":{"uri":"fd:)" +
                  std::to_string(state_file_) + R"("}})",
              [] {});
}

void machine_session::save() {
  arm(options_.restore_timeout, machine_event::fault,
      "the guest was not saved within " + seconds_text(options_.restore_timeout));
  qmp_->order(share_memory, [] {});
  // This QEMU takes the number of a descriptor for incoming state, but only a name for outgoing.
  qmp_->order(R"({"execute":"getfd","arguments":{"fdname":"state"}})", [] {}, std::move(save_to_));
  qmp_->order(R"({"execute":"migrate","arguments":{"uri":"fd:state"}})", [] {});
}

void machine_session::obey(const char* command, const char* what) {
  arm(options_.order_timeout, machine_event::fault,
      std::string{"QEMU did not "} + what + " the guest within " +
          seconds_text(options_.order_timeout));
  qmp_->order(command, [self = weak_from_this()] {
    if (auto alive = self.lock()) {
      alive->obeyed();
    }
  });
}

void machine_session::obeyed() {
  handle(machine_event::obeyed, {});
}

/// A process that is stopped or stuck says so in no other way. Only while nothing else is on.
void machine_session::look_later() {
  timer_.expires_after(options_.look_interval);
  timer_.async_wait([self = weak_from_this()](const boost::system::error_code& error) {
    if (auto alive = self.lock(); alive && !error) {
      alive->look();
    }
  });
}

void machine_session::look() {
  if (state_ != machine_state::paused) {
    return;
  }
  arm(options_.order_timeout, machine_event::fault,
      "QEMU gave no sign of life for " + seconds_text(options_.order_timeout) +
          " while the guest was paused");
  qmp_->order(R"({"execute":"query-status"})", [self = weak_from_this()] {
    auto alive = self.lock();
    if (alive && alive->state_ == machine_state::paused && !alive->exit_is_near_) {
      alive->look_later();
    }
  });
}

void machine_session::order(machine_event event, machine::answer done) {
  if (event == machine_event::save && state_ == machine_state::running && !save_to_) {
    return done(fail(ec::refused, "this VM was not started to be saved"));
  }
  const auto step = next(state_, event);
  if (step.act == machine_action::refuse) {
    return done(fail(ec::refused, "the order does not fit what the VM is doing"));
  }
  order_ = std::move(done);
  state_ = step.to;
  carry_out(step, {});
}

void machine_session::handle(machine_event event, const std::string& why) {
  const auto step = next(state_, event);
  state_ = step.to;
  carry_out(step, why);
}

void machine_session::carry_out(const machine_step& step, const std::string& why) {
  switch (step.act) {
  case machine_action::none:
  case machine_action::refuse:
    return;
  case machine_action::announce_ready:
    timer_.cancel();
    return on_.on_ready(std::move(*ready_));
  case machine_action::order_pause:
    return obey(R"({"execute":"stop"})", "pause");
  case machine_action::order_resume:
    return obey(R"({"execute":"cont"})", "resume");
  case machine_action::order_save:
    return save();
  case machine_action::answer:
    if (!exit_is_near_) {
      timer_.cancel();
      if (state_ == machine_state::paused) {
        look_later();
      }
    }
    return answer_order({});
  case machine_action::order_quit:
    qmp_->quit();
    arm(options_.quit_timeout, machine_event::overdue, {});
    return answer_order(fail(ec::exited, "the VM was told to end"));
  case machine_action::kill:
    kill_process();
    return answer_order(fail(ec::exited, "the VM was killed"));
  case machine_action::fail:
    kill_process();
    answer_order(fail(ec::exited, why));
    return say_failed(why);
  case machine_action::fail_and_end:
    answer_order(fail(ec::exited, why));
    say_failed(why);
    [[fallthrough]];
  case machine_action::end: {
    close_all();
    // The owner may end in the call: nothing of this is touched after it.
    auto on_gone = std::move(on_.on_gone);
    on_ = {};
    return on_gone(killed_);
  }
  }
}

void machine_session::answer_order(result<void> how) {
  if (auto done = std::exchange(order_, nullptr)) {
    done(std::move(how));
  }
}

void machine_session::take(frame<proto::FromGuest> message) {
  const bool is_ready = (*message.view()).isReady();
  const bool is_booted = state_ == machine_state::starting && !options_.from;
  if (is_ready && is_booted) {
    console_->drain();
    if (boots_anew()) {
      return;
    }
  }
  if (is_ready && (is_booted || state_ != machine_state::starting)) {
    ready_ = std::move(message);
    handle(machine_event::ready, "the guest's agent was started a second time");
  } else if (state_ == machine_state::starting) {
    handle(machine_event::fault, "the guest broke the protocol: spoke before it was ready");
  } else if (is_live(state_) || state_ == machine_state::quitting) {
    on_.on_message(std::move(message));
  }
}

void machine_session::take_event(const qmp_message& event) {
  if (event.name == "SHUTDOWN") {
    guest_end_ = "the guest ended by itself (" + event.detail + ")";
  } else if (event.name == "GUEST_PANICKED") {
    handle(machine_event::fault, "the guest kernel panicked");
  } else if (event.name == "BLOCK_IO_ERROR") {
    // The guest only ever sees EIO, later and elsewhere; the host knows why.
    handle(machine_event::fault, "the store could not serve the guest's disk: " + event.detail +
                                     " (look at the free space and the health of the file system "
                                     "below the state folder)");
  } else if (event.name == "STOP" && !may_halt(state_)) {
    handle(machine_event::fault, "QEMU stopped the guest because of an internal error");
  } else if (event.name == "MIGRATION") {
    take_migration(event.detail);
  }
}

/// Progress of a restore or of saving. A failed restore ends QEMU, which then says why.
void machine_session::take_migration(const std::string& status) {
  if (status == "completed" && state_ == machine_state::saving) {
    obeyed();
  } else if (status == "completed" && state_ == machine_state::starting && options_.from) {
    ready_ = options_.from->ready();
    handle(machine_event::ready, {});
  } else if (status == "failed" && state_ == machine_state::starting) {
    arm(exit_grace, machine_event::fault, "QEMU could not restore the guest");
  } else if (status == "failed") {
    handle(machine_event::fault, "QEMU could not save the guest");
  }
}

void machine_session::expect_exit(const std::string& what) {
  if (state_ == machine_state::starting || is_live(state_)) {
    exit_is_near_ = true;
    arm(exit_grace, machine_event::fault, what);
  }
}

void machine_session::process_ended(const child_exit& how) {
  qmp_->drain();
  console_->drain();
  channel_->drain();
  killed_ = killed_ || how.signal >= 0;
  std::string why = describe(how);
  if (!guest_end_.empty()) {
    why = guest_end_ + ", " + why;
  }
  if (auto said = printable_lines(how.output, qemu_lines_shown); !said.empty()) {
    why += ": " + said;
  }
  handle(machine_event::exit, why);
}

void machine_session::arm(std::chrono::milliseconds delay, machine_event event, std::string why) {
  timer_.expires_after(delay);
  timer_.async_wait([self = weak_from_this(), event,
                     text = std::move(why)](const boost::system::error_code& error) {
    if (auto alive = self.lock(); alive && !error) {
      alive->handle(event, text);
    }
  });
}

void machine_session::say_failed(std::string why) {
  console_->drain();
  const auto console = console_->text();
  // A panic's reason stands above a trace that is longer than what is shown.
  if (auto at = console.rfind("Kernel panic"); at != std::string::npos) {
    const auto reason = std::string_view{console}.substr(at);
    why += ": " + printable_lines(reason.substr(0, reason.find('\n')), 1);
  }
  const auto lines = printable_lines(console, console_lines_shown);
  const auto on_failed = on_.on_failed;
  on_failed(lines.empty() ? why + " (nothing on the console)"
                          : why + "; last console lines:\n" + lines);
}

void machine_session::say_writable() const {
  if (is_live(state_) && on_.on_writable) {
    on_.on_writable();
  }
}

void machine_session::kill_process() {
  killed_ = true;
  timer_.cancel();
  channel_->close();
  qmp_->close();
  if (auto process = process_.lock()) {
    process->kill();
  }
}

void machine_session::close_all() {
  timer_.cancel();
  channel_->close();
  qmp_->close();
  console_->close();
  save_to_.reset(); // orders that are still on their way to us keep us, but nothing of the VM
}

} // namespace coppice::vmm
