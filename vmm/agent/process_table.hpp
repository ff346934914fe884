#pragma once

#include "vmm/agent/oom_counter.hpp"
#include "vmm/agent/running_process.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include <poll.h>

namespace coppice::agent {

/// The processes of a run that were asked for: the main one and those beside it.
///
/// Guarantee: there are never more than `alive_max`; each moves on by the same piece in turn; the
/// main one's end is said last.
/// Owner: the run. The port outlives it.
class process_table {
public:
  /// The main one and as many as the host gives. Each has three pipes: together with what was left
  /// behind they stay below the usual limit of a thousand descriptors.
  static constexpr std::size_t alive_max = 65;

  /// With the main process in it, which is not started yet.
  process_table(port& host, std::uint64_t run, oom_counter oom = {});

  running_process& main() {
    return processes_.begin()->second;
  }
  const running_process& main() const {
    return processes_.begin()->second;
  }

  /// Null: there is none of that number (any more).
  running_process* find(std::uint32_t spid);

  /// A place for one more; it must be started or removed. EAGAIN: too many run; EEXIST: the number
  /// was used.
  result<running_process*> add(std::uint32_t spid);
  void remove(std::uint32_t spid);

  void take_reaped(pid_t pid, int status, const rusage& usage);

  void add_interests(std::vector<pollfd>& to) const;

  /// While the main process runs: moves all on, says the ends of those beside it.
  void pump();

  /// The deadline of all has passed.
  void expire();

  /// All that still run are about to be killed, by us.
  void expect_kills();

  /// All processes have been ended, those that do not end, too.
  void end_all();
  /// After that: reads and says what is left; true when all has been said.
  bool drain();

private:
  void pump_leftovers();

  static constexpr std::size_t leftovers_max = 128;

  port& host_;
  std::uint64_t run_;
  std::map<std::uint32_t, running_process> processes_;
  oom_counter oom_;
  std::uint32_t last_spid_ = main_spid;
  std::uint32_t next_turn_ = main_spid;  ///< who comes first when there is not room for all
  std::vector<output_stream> leftovers_; ///< of ended ones, held by their children
};

} // namespace coppice::agent
