#include "gateway/http/outcome.hpp"

namespace coppice::gateway {

std::optional<operation_outcome> outcome_of(proto::OperationRecord::Reader record) {
  const auto result = record.getResult();
  switch (record.getStatus()) {
  case proto::OperationStatus::PENDING:
  case proto::OperationStatus::ASSIGNED:
  case proto::OperationStatus::EXECUTING:
  case proto::OperationStatus::CANCELLED:
    return std::nullopt;
  case proto::OperationStatus::FAILED:
    return record.getTaskFault() ? operation_outcome{"task_error", false}
                                 : operation_outcome{"infra", true};
  case proto::OperationStatus::SUCCESS:
    if (!record.getHasResult()) {
      return operation_outcome{"ok", false}; // an import
    }
    if (result.getTimedOut()) {
      return operation_outcome{"timeout", false};
    }
    if (result.getOomKilled()) {
      return operation_outcome{"oom", false};
    }
    return operation_outcome{result.getExitCode() == 0 ? "ok" : "task_error", false};
  }
  return std::nullopt;
}

} // namespace coppice::gateway
