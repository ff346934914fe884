#pragma once

#include "actors/interfaces.hpp"
#include "actors/output_meter.hpp"
#include "actors/process_input.hpp"
#include "protocol/limits.hpp"

#include <caf/error.hpp>
#include <caf/expected.hpp>
#include <caf/typed_response_promise.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace coppice {

/// One process of a run, from the order to start it until its end.
struct run_process {
  using promise = caf::typed_response_promise<frame<proto::ProcessAnswer>>;

  bool runs = false; ///< the guest has said so
  output_meter out;
  output_meter err;
  process_input input;
  frame<proto::ProcessOrder> order; ///< what it was started with; until it runs
  std::optional<promise> asked;     ///< who waits for that
};

/// The processes of one run that have not ended: the main one, spid 1, and those beside it.
///
/// Guarantee: a spid is given once; only what was given here is found here, so a guest that makes
/// up a process talks of nobody. Bounded in those that live, in those that ever lived, and in the
/// input that waits for all of them.
/// Owner: one instance actor.
class process_table {
public:
  static constexpr std::size_t beside_max = 64;
  static constexpr std::uint32_t spid_max = 1024;
  /// Held in the guest's memory as long as nobody reads it: twice what one process may be given.
  static constexpr std::uint64_t held_bytes_max = 2 * limits::stdin_bytes_max;

  /// Forgets all; the main process is not running yet.
  void begin(std::uint64_t kept_bytes, std::uint64_t stdin_bytes, bool closes_stdin);

  run_process& main() {
    return processes_.begin()->second;
  }
  const run_process& main() const {
    return processes_.begin()->second;
  }

  /// Null: it was never given, or has ended.
  run_process* find(std::uint32_t spid);

  /// One that runs. not_found: there never was one; conflict: it has ended.
  caf::expected<run_process*> running(std::uint32_t spid);

  /// A new spid for the process of an order. busy: there may not be one more now, or its input may
  /// not wait; conflict: there have been all that there may be; too_large: no process may be given
  /// so much at once.
  caf::expected<std::uint32_t> add(const frame<proto::ProcessOrder>& order);

  void remove(std::uint32_t spid) {
    processes_.erase(spid);
  }

  /// Why so much more input may not wait for this process; none: it may.
  std::optional<caf::error> refusal_of_input(const process_input& input, std::uint64_t bytes) const;

  /// Answers all who wait for a process to start, and forgets these processes.
  void fail_waiting(const caf::error& why);

private:
  std::map<std::uint32_t, run_process> processes_;
  std::uint32_t last_spid_ = 1;
};

} // namespace coppice
