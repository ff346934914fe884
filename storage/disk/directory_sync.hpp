#pragma once

#include "protocol/result.hpp"
#include "storage/ring/ring.hpp"
#include "storage/ring/task.hpp"

#include <coroutine>
#include <string>
#include <vector>

namespace coppice::storage {

/// Makes the names in one directory durable, one sync for all who wait.
///
/// Guarantee: a sync that began after the caller's change has ended when `sync` returns. Owner: the
/// thread of the ring.
class directory_sync {
public:
  directory_sync(ring& on, std::string path) : ring_{on}, path_{std::move(path)} {}

  task<result<void>> sync();

  /// How many were made, for tests and figures.
  std::size_t syncs() const {
    return syncs_;
  }

private:
  struct waiter {
    std::coroutine_handle<> caller;
    result<void> outcome;
  };
  struct wait;

  ring& ring_;
  std::string path_;
  bool is_running_ = false;
  std::vector<waiter*> line_; ///< for the sync after the one that runs
  std::size_t syncs_ = 0;
};

} // namespace coppice::storage
