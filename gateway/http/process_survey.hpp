#pragma once

#include "gateway/http/body_sources.hpp"
#include "gateway/http/exchange.hpp"
#include "protocol/events.capnp.h"
#include "protocol/uuid.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>

/// What the event log says about processes.
namespace coppice::gateway {

/// One process: how it began and ended, and of what kind its output is.
struct process_survey {
  struct stream {
    bool is_plain = true;
    bool is_truncated = false;
  };

  std::uint64_t first_id = 0; ///< of its events
  std::uint64_t end_id = 0;   ///< of all events that were looked at
  bool has_started = false;
  std::uint32_t pid = 0;
  std::string command; ///< as executed; the beginning of a long one
  std::optional<frame<proto::RunResult>> end;
  stream out;
  stream err;

  /// The result so far.
  frame<proto::RunResult> result() const;
};

/// Reads the log so far: an encoding must be chosen before the first byte is sent. 410: the log is
/// not kept.
asio::awaitable<answer<process_survey>> survey_process(exchange& x, uuid operation,
                                                       std::uint32_t spid);

/// All that started, by spid.
asio::awaitable<answer<std::map<std::uint32_t, process_survey>>> survey_processes(exchange& x,
                                                                                  uuid operation);

/// Writes the result of a process as it was surveyed, its output from the log.
void write_surveyed_result(json_body& body, exchange& x, const uuid& operation, std::uint32_t spid,
                           const process_survey& survey);

/// Writes the result of a finished run's main process, from its record, and where the log is kept,
/// from that.
void write_recorded_result(json_body& body, exchange& x,
                           const frame<proto::OperationRecord>& operation,
                           proto::OperationRecord::Reader record);

} // namespace coppice::gateway
