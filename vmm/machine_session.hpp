#pragma once

#include "vmm/child_process.hpp"
#include "vmm/guest_channel.hpp"
#include "vmm/machine.hpp"
#include "vmm/machine_state.hpp"
#include "vmm/output_tail.hpp"
#include "vmm/qmp.hpp"

#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

namespace coppice::vmm {

/// The supervisor proper behind a `machine`.
///
/// Guarantee: machine.hpp's, kept by the table in machine_state.hpp. Lives on the event loop until
/// the process is gone, also when the handle is not there any more; hence it refers to the process
/// weakly (the handle owns it).
class machine_session : public std::enable_shared_from_this<machine_session> {
public:
  /// `state_file`: restored: the number of the template's state in QEMU; else of no use.
  /// `save_to`: of a guest that becomes a template.
  machine_session(event_loop& loop, const machine_options& options, int state_file,
                  unique_fd save_to, machine::callbacks on);

  void make_channels(unique_fd console, unique_fd qmp, unique_fd agent);
  void begin(std::weak_ptr<child_process> process);

  /// `why`: for a fault, an exit, and for orders that come before the guest is ready.
  void handle(machine_event event, const std::string& why);

  /// pause, resume or save.
  void order(machine_event event, machine::answer done);

  void process_ended(const child_exit& how);

  guest_channel& channel() {
    return *channel_;
  }

private:
  void carry_out(const machine_step& step, const std::string& why);
  void take(frame<proto::FromGuest> message);
  void take_event(const qmp_message& event);
  void take_migration(const std::string& status);
  void restore();
  void save();
  bool boots_anew();
  void obey(const char* command, const char* what);
  void obeyed();
  void look_later();
  void look();
  void answer_order(result<void> how);
  void expect_exit(const std::string& what);
  void arm(std::chrono::milliseconds delay, machine_event event, std::string why);
  void say_failed(std::string why);
  void say_writable() const;
  void kill_process();
  void close_all();

  event_loop& loop_;
  const machine_options options_; // keeps the template's files until the process is gone
  const int state_file_;
  unique_fd save_to_;
  machine::callbacks on_;
  // One at a time: deadline of the boot, of an order or of quit, grace for an exit, or the next
  // look at a paused VM.
  boost::asio::steady_timer timer_;

  machine_state state_ = machine_state::starting;
  machine::answer order_; // that QEMU carries out
  std::string guest_end_; // what QMP said about a guest that ended by itself
  std::optional<frame<proto::FromGuest>> ready_;
  unsigned boots_ = 1;
  bool killed_ = false;
  bool exit_is_near_ = false; // a channel has closed: the timer is for that
  std::weak_ptr<child_process> process_;
  std::shared_ptr<tail_reader> console_;
  std::shared_ptr<qmp_client> qmp_;
  std::shared_ptr<guest_channel> channel_;
};

} // namespace coppice::vmm
