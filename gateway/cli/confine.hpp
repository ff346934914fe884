#pragma once

#include "protocol/result.hpp"

#include <cstdint>

namespace coppice::cli {

/// What a worker process that parses hostile bytes may use.
struct worker_limits {
  std::uint64_t address_space_bytes = 2ull << 30;
  std::uint64_t cpu_seconds = 3600;
  std::uint64_t file_bytes = 0; ///< largest file that it may write; 0: it writes none
};

/// Lowers this process's limits for good: memory, time, file size, no core dump (it would hold the
/// image's content), no new privileges.
result<void> limit_worker(const worker_limits& limits);

/// Gives up what a process with nothing left to open does not need: the network, and, if it is
/// root, its user. The descriptors that it has stay usable.
result<void> drop_rights();

} // namespace coppice::cli
