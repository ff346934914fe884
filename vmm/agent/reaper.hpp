#pragma once

#include "vmm/agent/descriptor.hpp"

#include <functional>

#include <sys/resource.h>
#include <sys/types.h>

/// The duty of a machine's first process: it inherits every orphan.
namespace coppice::agent {

using reaped = std::function<void(pid_t pid, int status, const rusage& usage)>;

/// Collects every process that has ended. Never blocks. True: no child is left.
bool reap(const reaped& each);

/// Kills every process but this one and waits until all are gone, some seconds at most. EBUSY: some
/// do not end. Only for the machine's first process, anything else is refused.
result<void> end_all_processes(const reaped& each);

} // namespace coppice::agent
