#pragma once

#include "protocol/records.capnp.h"

#include <optional>
#include <string_view>

namespace coppice::gateway {

/// How an operation came out, for programs that must tell their own failures from the platform's.
struct operation_outcome {
  std::string_view name; ///< ok, task_error, timeout, oom, infra
  bool is_retryable;     ///< the platform failed: the same request may well succeed
};

/// Nothing while it has not ended, and for one that was cancelled.
std::optional<operation_outcome> outcome_of(proto::OperationRecord::Reader record);

} // namespace coppice::gateway
