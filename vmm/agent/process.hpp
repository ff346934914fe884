#pragma once

#include "vmm/agent/command.hpp"
#include "vmm/agent/descriptor.hpp"
#include "vmm/agent/users.hpp"

#include <string>

#include <sys/types.h>

namespace coppice::agent {

/// What to start, and where.
struct process_plan {
  int root = -1; ///< folder that becomes "/"
  command_line command;
  identity who;
  std::string cwd; ///< "/" where it is no folder
};

/// A child process in a session of its own, with pipes for its standard streams. The agent's ends
/// are non-blocking.
struct child {
  pid_t pid = -1;
  descriptor input;
  descriptor output;
  descriptor errors;
  std::string cwd; ///< where it runs
  /// Not empty: nothing runs, this line says why, and the child ends with 126 or 127 as a shell
  /// would have it.
  std::string refusal;
};

/// Starts a process. A command that cannot be executed is no failure, see `child::refusal`;
/// failures are what a process in a sound guest never meets (no memory, no process table entry).
result<child> start_process(const process_plan& plan);

} // namespace coppice::agent
