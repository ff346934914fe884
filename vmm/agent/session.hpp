#pragma once

#include "vmm/agent/disk.hpp"
#include "vmm/agent/port.hpp"
#include "vmm/agent/run.hpp"

#include <optional>

namespace coppice::agent {

/// The agent's event loop: orders from the host, ended processes, the streams and the deadline of
/// the run that is on. One thread; nothing blocks but the steps that close a disk.
class session {
public:
  /// `signals`: a non-blocking signalfd for SIGCHLD.
  session(port host, disk image, descriptor signals);

  /// Says ready, then serves until the host orders the power off or is gone.
  result<void> serve();

private:
  result<void> wait();
  result<void> hear_host();
  void take(const frame<proto::ToGuest>& message);
  void take_start(const frame<proto::ToGuest>& message);
  void reap_ended();
  int wait_ms() const;

  port host_;
  disk image_;
  descriptor signals_;
  std::optional<run> run_;
  std::uint64_t last_run_ = 0;
  bool has_more_ended_ = false; ///< processes wait to be reaped, without another signal
  bool is_off_ordered_ = false;
  bool is_host_away_ = false;
  run::clock::time_point away_since_{};
  std::vector<pollfd> interests_;
};

} // namespace coppice::agent
