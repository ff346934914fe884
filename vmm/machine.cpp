#include "vmm/machine.hpp"

#include "vmm/command_line.hpp"
#include "vmm/find_program.hpp"
#include "vmm/guest_channel.hpp"
#include "vmm/machine_state.hpp"
#include "vmm/output_tail.hpp"
#include "vmm/probe_clock.hpp"
#include "vmm/qmp.hpp"

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

namespace coppice::vmm {

namespace {

namespace asio = boost::asio;

constexpr std::size_t console_bytes_max = 16u << 10;
constexpr std::size_t console_lines_shown = 20;
constexpr std::size_t qemu_lines_shown = 6;
// QEMU's sockets close when it ends: this long to learn how it ended before that is a fault.
constexpr std::chrono::seconds exit_grace{2};

struct socket_pair {
  unique_fd ours;
  unique_fd theirs;
};

result<socket_pair> make_socket_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return fail(ec::spawn, std::string{"making a socket pair for QEMU: "} + std::strerror(errno));
  }
  return socket_pair{unique_fd{ends[0]}, unique_fd{ends[1]}};
}

result<void> check_readable(const std::filesystem::path& file, const char* what,
                            const char* setting) {
  if (::access(file.c_str(), R_OK) == 0) {
    return {};
  }
  return fail(ec::missing, std::string{what} + " " + file.string() + ": " + std::strerror(errno) +
                               ": make it with configs/guest/prepare.sh or name another one with " +
                               setting);
}

result<std::string> check_ingredients(const machine_options& options) {
  auto qemu = find_program(options.qemu);
  if (!qemu) {
    return fail(ec::missing, qemu.error().text + ": install the package qemu-system-x86 or name " +
                                 "the program with vm.qemu");
  }
  if (auto kernel = check_readable(options.kernel, "guest kernel", "vm.kernel"); !kernel) {
    return kernel.error();
  }
  if (auto image = check_readable(options.initramfs, "guest initramfs", "vm.initramfs"); !image) {
    return image.error();
  }
  return *qemu;
}

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

/// The supervisor proper. Lives on the event loop until the process is gone, also when the handle
/// is not there any more; hence it refers to the process weakly (the handle owns it).
class session : public std::enable_shared_from_this<session> {
public:
  session(event_loop& loop, const machine_options& options, machine::callbacks on)
      : loop_{loop}, boot_timeout_{options.boot_timeout},
        quit_timeout_{options.quit_timeout}, on_{std::move(on)}, timer_{loop.context()} {}

  void make_channels(unique_fd console, unique_fd qmp, unique_fd agent);
  void begin(std::weak_ptr<child_process> process);
  void handle(machine_event event, const std::string& why);
  void process_ended(const child_exit& how);

  guest_channel& channel() {
    return *channel_;
  }

private:
  void take(frame<proto::FromGuest> message);
  void take_event(const qmp_message& event);
  void expect_exit(const std::string& what);
  void arm(std::chrono::milliseconds delay, machine_event event, std::string why);
  void say_failed(std::string why);
  void say_writable() const;
  void kill_process();
  void close_all();

  event_loop& loop_;
  const std::chrono::milliseconds boot_timeout_;
  const std::chrono::milliseconds quit_timeout_;
  machine::callbacks on_;
  asio::steady_timer timer_; // one at a time: boot deadline, quit deadline or exit grace

  machine_state state_ = machine_state::starting;
  std::string guest_end_; // what QMP said about a guest that ended by itself
  std::optional<frame<proto::FromGuest>> ready_;
  bool killed_ = false;
  std::weak_ptr<child_process> process_;
  std::shared_ptr<tail_reader> console_;
  std::shared_ptr<qmp_client> qmp_;
  std::shared_ptr<guest_channel> channel_;
};

void session::make_channels(unique_fd console, unique_fd qmp, unique_fd agent) {
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
          weakly([](session& s, const qmp_message& event) { s.take_event(event); }),
          weakly([](session& s, const std::string& why) { s.handle(machine_event::fault, why); }),
          weakly([](session& s) { s.expect_exit("QEMU's control socket closed"); })});
  channel_ = std::make_shared<guest_channel>(
      loop_.context(), std::move(agent),
      guest_channel::bounds{machine::queue_bytes_max, machine::unread_bytes_max},
      guest_channel::handlers{
          weakly([](session& s, frame<proto::FromGuest> message) { s.take(std::move(message)); }),
          weakly([](session& s, const std::string& why) {
            s.handle(machine_event::fault, "the guest broke the protocol: " + why);
          }),
          weakly([](session& s) { s.expect_exit("the guest's channel closed"); }),
          weakly([](session& s) { s.say_writable(); })});
}

void session::begin(std::weak_ptr<child_process> process) {
  process_ = std::move(process);
  if (state_ != machine_state::starting) {
    kill_process(); // ordered before the loop came to it
    return;
  }
  console_->start();
  qmp_->start();
  channel_->start();
  arm(boot_timeout_, machine_event::fault,
      "the guest's agent did not report ready within " + seconds_text(boot_timeout_));
}

void session::handle(machine_event event, const std::string& why) {
  const auto step = next(state_, event);
  state_ = step.to;
  switch (step.act) {
  case machine_action::none:
    return;
  case machine_action::announce_ready:
    timer_.cancel();
    return on_.on_ready(std::move(*ready_));
  case machine_action::order_quit:
    qmp_->quit();
    return arm(quit_timeout_, machine_event::overdue, {});
  case machine_action::kill:
    return kill_process();
  case machine_action::fail:
    kill_process();
    return say_failed(why);
  case machine_action::fail_and_end:
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

void session::take(frame<proto::FromGuest> message) {
  const bool is_ready = (*message.view()).isReady();
  if (is_ready) {
    ready_ = std::move(message);
    handle(machine_event::ready, "the guest's agent was started a second time");
  } else if (state_ == machine_state::starting) {
    handle(machine_event::fault, "the guest broke the protocol: spoke before it was ready");
  } else if (state_ == machine_state::running || state_ == machine_state::quitting) {
    on_.on_message(std::move(message));
  }
}

void session::take_event(const qmp_message& event) {
  if (event.name == "SHUTDOWN") {
    guest_end_ = "the guest ended by itself (" + event.detail + ")";
  } else if (event.name == "GUEST_PANICKED") {
    handle(machine_event::fault, "the guest kernel panicked");
  } else if (event.name == "BLOCK_IO_ERROR") {
    // The guest only ever sees EIO, later and elsewhere; the host knows why.
    handle(machine_event::fault, "the store could not serve the guest's disk: " + event.detail +
                                     " (look at the free space and the health of the file system "
                                     "below the state folder)");
  } else if (event.name == "STOP") {
    // We never stop a VM: the accelerator could not go on, or the disk is out of reach.
    handle(machine_event::fault, "QEMU stopped the guest because of an internal error");
  }
}

void session::expect_exit(const std::string& what) {
  if (state_ == machine_state::starting || state_ == machine_state::running) {
    arm(exit_grace, machine_event::fault, what);
  }
}

void session::process_ended(const child_exit& how) {
  qmp_->drain();
  console_->drain();
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

void session::arm(std::chrono::milliseconds delay, machine_event event, std::string why) {
  timer_.expires_after(delay);
  timer_.async_wait([self = weak_from_this(), event,
                     text = std::move(why)](const boost::system::error_code& error) {
    if (auto alive = self.lock(); alive && !error) {
      alive->handle(event, text);
    }
  });
}

void session::say_failed(std::string why) {
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

void session::say_writable() const {
  if (state_ == machine_state::running && on_.on_writable) {
    on_.on_writable();
  }
}

void session::kill_process() {
  killed_ = true;
  timer_.cancel();
  channel_->close();
  qmp_->close();
  if (auto process = process_.lock()) {
    process->kill();
  }
}

void session::close_all() {
  timer_.cancel();
  channel_->close();
  qmp_->close();
  console_->close();
}

} // namespace

struct machine::impl {
  event_loop& loop;
  std::shared_ptr<session> supervisor;
  std::shared_ptr<child_process> process;

  void order(machine_event event, const char* why) const {
    asio::post(loop.context(), [s = supervisor, event, why] { s->handle(event, why); });
  }
};

result<std::shared_ptr<machine>> machine::start(event_loop& loop, const machine_options& options,
                                                disk_attachment disk, callbacks on) {
  auto qemu = check_ingredients(options);
  if (!qemu) {
    return qemu.error();
  }
  auto console = make_socket_pair();
  auto qmp = make_socket_pair();
  auto agent = make_socket_pair();
  for (const auto* pair : {&console, &qmp, &agent}) {
    if (!*pair) {
      return pair->error();
    }
  }
  const auto numbers = pick_sockets(disk);
  child_options child;
  child.argv = command_line(options, disk, numbers, tsc_khz());
  child.argv.front() = *qemu;
  child.environment = {"LC_ALL=C"};
  child.descriptors = disk.descriptors;
  child.descriptors.emplace_back(console->theirs.get(), numbers.console);
  child.descriptors.emplace_back(qmp->theirs.get(), numbers.qmp);
  child.descriptors.emplace_back(agent->theirs.get(), numbers.agent);

  auto supervisor = std::make_shared<session>(loop, options, std::move(on));
  supervisor->make_channels(std::move(console->ours), std::move(qmp->ours), std::move(agent->ours));
  auto process = child_process::start(
      loop, std::move(child), [supervisor](child_exit how) { supervisor->process_ended(how); });
  if (!process) {
    return process.error();
  }
  asio::post(loop.context(),
             [supervisor, child = std::weak_ptr{*process}] { supervisor->begin(child); });
  return std::shared_ptr<machine>{
      new machine{std::make_shared<impl>(impl{loop, std::move(supervisor), std::move(*process)})}};
}

machine::machine(std::shared_ptr<impl> state) : impl_{std::move(state)} {}

machine::~machine() {
  kill();
}

result<void> machine::send(const frame<proto::ToGuest>& message) {
  return impl_->supervisor->channel().send(message);
}

void machine::consumed(std::size_t bytes) {
  impl_->supervisor->channel().consumed(bytes);
}

void machine::quit() {
  impl_->order(machine_event::quit, "stopped by request before the guest was ready");
}

void machine::kill() {
  impl_->order(machine_event::kill, "stopped by request before the guest was ready");
}

int machine::pid() const {
  return impl_->process->pid();
}

} // namespace coppice::vmm
