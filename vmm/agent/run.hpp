#pragma once

#include "vmm/agent/disk.hpp"
#include "vmm/agent/file_placer.hpp"
#include "vmm/agent/messages.hpp"
#include "vmm/agent/port.hpp"
#include "vmm/agent/process.hpp"
#include "vmm/agent/process_table.hpp"

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <poll.h>

namespace coppice::agent {

/// One run: a disk is mounted, files are placed, a process runs on it, others beside it as they are
/// asked for; when that one ends all are ended and the disk is closed.
///
/// Guarantee: once begun it always comes to `finished`, whatever the process does: each wait on the
/// way has an end. The order of messages is that of protocol/guest.capnp.
/// Owner: the session, which polls for it. Port and disk outlive it.
class run {
public:
  using clock = std::chrono::steady_clock;

  run(port& host, disk& image, frame<proto::ToGuest> order);

  /// Mounts and prepares; starts the process unless files are still to come.
  void begin();

  std::uint64_t number() const {
    return number_;
  }

  bool is_over() const {
    return phase_ == phase::over;
  }

  void take_file(proto::ToGuest::FileChunk::Reader chunk);
  void take_stdin(proto::ToGuest::StdinChunk::Reader chunk);
  void take_signal(proto::ToGuest::Signal::Reader signal);
  void take_exec(proto::ToGuest::Exec::Reader exec);

  /// A process of the machine ended, ours or an orphan.
  void take_reaped(pid_t pid, int status, const rusage& usage);

  /// Adds what this run waits for.
  void add_interests(std::vector<pollfd>& to) const;

  std::optional<clock::time_point> deadline() const;

  /// Moves on: after events, after the deadline.
  void advance();

  /// Ends everything without another word, for the power to go off.
  void abandon();

private:
  enum class phase {
    placing,  ///< files are coming
    running,  ///< the main process runs
    draining, ///< every process is gone, the last output goes to the host
    over,     ///< finished was said
  };

  result<void> set_up_guest(proto::ToGuest::Start::Reader start);
  /// What `process` leaves open is as the process has it that it stands `beside`, then as the image
  /// says.
  result<process_plan> make_plan(proto::ProcessSpec::Reader process,
                                 proto::ProcessSpec::Reader beside);
  bool is_running() const {
    return phase_ == phase::running && !processes_.main().has_ended();
  }
  void start_main();
  void end_processes();
  void fail(std::string_view stage, const failure& why);
  void close_disk();

  port& host_;
  disk& image_;
  frame<proto::ToGuest> order_;
  std::uint64_t number_;
  phase phase_ = phase::placing;
  file_placer files_;
  /// Of the image, and of the files that were placed, as they were before anything ran: later there
  /// may be a mount over them that never answers.
  std::string passwd_;
  std::string group_;
  process_table processes_;
  bool is_held_ = false; ///< the disk stays mounted
  std::optional<clock::time_point> deadline_;
  std::string in_the_way_; ///< why the disk cannot be clean
};

} // namespace coppice::agent
