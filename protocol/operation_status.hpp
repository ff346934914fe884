#pragma once

#include "protocol/types.capnp.h"

#include <array>
#include <string_view>
#include <utility>

namespace coppice {

/// What an operation's status is called, in the API (contract: "status") and in logs.
inline constexpr std::array<std::pair<proto::OperationStatus, std::string_view>, 6>
    operation_status_names{{
        {proto::OperationStatus::PENDING, "PENDING"},
        {proto::OperationStatus::ASSIGNED, "ASSIGNED"},
        {proto::OperationStatus::EXECUTING, "EXECUTING"},
        {proto::OperationStatus::SUCCESS, "SUCCESS"},
        {proto::OperationStatus::FAILED, "FAILED"},
        {proto::OperationStatus::CANCELLED, "CANCELLED"},
    }};

/// Empty for a number that is no status, as a damaged record may hold.
constexpr std::string_view status_name(proto::OperationStatus status) {
  for (const auto& [value, name] : operation_status_names) {
    if (value == status) {
      return name;
    }
  }
  return {};
}

/// It has ended, and nothing of it changes any more.
constexpr bool is_terminal(proto::OperationStatus status) {
  return status == proto::OperationStatus::SUCCESS || status == proto::OperationStatus::FAILED ||
         status == proto::OperationStatus::CANCELLED;
}

} // namespace coppice
