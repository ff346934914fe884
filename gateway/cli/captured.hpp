#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace coppice::cli {

/// What a short-lived program said.
struct captured_run {
  bool was_started = false; ///< false: no such program, `output` says why
  int exit_code = -1;       ///< -1: it was killed, at the latest at the deadline
  std::string output;       ///< the first 64 KiB of standard output and error
};

/// Runs a program of the operator's machine to its end, for `coppice doctor`.
captured_run capture(const std::vector<std::string>& argv, std::chrono::milliseconds deadline);

} // namespace coppice::cli
