#pragma once

#include "vmm/agent/messages.hpp"
#include "vmm/agent/port.hpp"
#include "vmm/agent/process.hpp"
#include "vmm/agent/streams.hpp"

#include <chrono>
#include <cstdint>
#include <string_view>
#include <vector>

#include <poll.h>

namespace coppice::agent {

/// One process of a run: its three streams and its end, told to the host.
///
/// Guarantee: between `start` and the end every output message comes after `started` and before
/// `exited`, which is said once. A process that does not read, or writes without pause, costs the
/// others nothing but their share: what it is to read is held here, what it writes is read a piece
/// at a time and only while the host keeps up.
/// Owner: the process table of a run. The port outlives it.
class running_process {
public:
  using clock = std::chrono::steady_clock;

  running_process(port& host, process_name name) : host_{host}, name_{name} {}

  std::uint32_t spid() const {
    return name_.spid;
  }

  /// Starts it and says so. Input may have been fed before.
  result<void> start(const process_plan& plan, std::uint64_t kept_bytes_max);

  bool runs() const {
    return end_.pid > 0 && !has_ended_;
  }
  bool has_ended() const {
    return has_ended_;
  }
  pid_t pid() const {
    return end_.pid;
  }
  clock::time_point started_at() const {
    return started_at_;
  }

  /// To be read by the process; see input_stream::feed.
  void feed(std::string_view data, bool close);

  void signal(int number);

  /// Its deadline has passed: if a signal ends it, that was why.
  void expire() {
    end_.is_timed_out = !has_ended_;
  }

  /// It is about to be killed, by us.
  void expect_kill() {
    is_kill_expected_ = true;
  }

  /// Whether the kernel may have ended it, or the one that a shell ran for it and whose end it
  /// passed on: it was killed, and not by us.
  bool may_be_oom_kill(int status) const;

  /// From wait4(2), or assumed where it does not come.
  void take_end(int status, const rusage& usage, bool is_oom_kill);

  /// All processes have been ended: its pipes are to be read to their ends.
  void end_with_all();

  void add_interests(std::vector<pollfd>& to) const;

  /// Moves input and output on by a piece, as far as the host keeps up. With `is_last` nobody holds
  /// the pipes any more and they are read to their ends.
  void pump(bool is_last);

  /// It has ended and all its output was said.
  bool is_drained() const {
    return has_ended_ && output_.is_done() && errors_.is_done();
  }
  void say_exited();

  /// Streams that others still hold. They are to be read on, without keeping anything: who writes
  /// to a closed pipe dies of it.
  void hand_over(std::vector<output_stream>& to);

private:
  void say_taken();

  port& host_;
  process_name name_;
  input_stream input_;
  output_stream output_;
  output_stream errors_;
  process_end end_;
  bool has_ended_ = false;
  bool is_kill_expected_ = false;
  clock::time_point started_at_{};
  std::uint64_t said_taken_bytes_ = 0;
  bool said_closed_ = false;
};

} // namespace coppice::agent
