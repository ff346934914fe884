#pragma once

#include "vmm/agent/descriptor.hpp"

#include <functional>

#include <sys/resource.h>
#include <sys/types.h>

/// The duty of a machine's first process: it inherits every orphan.
namespace coppice::agent {

using reaped = std::function<void(pid_t pid, int status, const rusage& usage)>;

/// What `reap` leaves behind.
enum class children {
  none,    ///< there are none
  running, ///< all that are left run
  ended,   ///< more have ended than one call collects
};

/// Collects processes that have ended, a fair share of them: processes that fork and end without
/// pause must not hold the caller for ever. Never blocks.
children reap(const reaped& each);

/// Kills every process but this one and waits until all are gone, some seconds at most. EBUSY: some
/// do not end. Only for the machine's first process, anything else is refused.
result<void> end_all_processes(const reaped& each);

} // namespace coppice::agent
