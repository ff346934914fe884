#pragma once

#include "protocol/operation_status.hpp"

#include <cstdint>
#include <optional>

/// The life cycle of an operation:
///
///   pending ──▶ assigned ──▶ executing ──▶ success
///      │            │            │   └───▶ failed
///      └────────────┴────────────┴───────▶ failed, cancelled
///
/// Terminal states are final. An import goes from assigned straight to its end; work that fails
/// before it has a slot goes from pending to failed.
namespace coppice {

enum class operation_event : std::uint8_t {
  slot_granted,    ///< the scheduler let it go
  process_started, ///< the guest runs the command
  succeeded,       ///< the work is done and durable
  failed,          ///< the platform, the registry or the guest failed
  cancelled,       ///< by request
};

/// The state after `event`, or nothing where the event cannot happen in `status`.
constexpr std::optional<proto::OperationStatus> next(proto::OperationStatus status,
                                                     operation_event event) {
  using enum proto::OperationStatus;
  if (is_terminal(status)) {
    return std::nullopt;
  }
  switch (event) {
  case operation_event::slot_granted:
    return status == PENDING ? std::optional{ASSIGNED} : std::nullopt;
  case operation_event::process_started:
    return status == ASSIGNED ? std::optional{EXECUTING} : std::nullopt;
  case operation_event::succeeded:
    return status == PENDING ? std::nullopt : std::optional{SUCCESS};
  case operation_event::failed:
    return FAILED;
  case operation_event::cancelled:
    return CANCELLED;
  }
  return std::nullopt;
}

} // namespace coppice
