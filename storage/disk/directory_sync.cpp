#include "storage/disk/directory_sync.hpp"

#include "storage/ring/io.hpp"

#include <utility>

namespace coppice::storage {

struct directory_sync::wait {
  directory_sync& of;
  waiter self{};

  bool await_ready() const noexcept {
    return false;
  }
  void await_suspend(std::coroutine_handle<> caller) {
    self.caller = caller;
    of.line_.push_back(&self);
  }
  result<void> await_resume() {
    return std::move(self.outcome);
  }
};

task<result<void>> directory_sync::sync() {
  if (is_running_) {
    // The one that runs may have begun before our change: the next is ours.
    wait next{*this};
    auto outcome = co_await next;
    co_return outcome;
  }
  is_running_ = true;
  ++syncs_;
  auto own = co_await io::sync_directory(ring_, path_);
  while (!line_.empty()) {
    auto served = std::exchange(line_, {});
    ++syncs_;
    auto theirs = co_await io::sync_directory(ring_, path_);
    for (auto* w : served) {
      w->outcome = theirs;
      w->caller.resume();
    }
  }
  is_running_ = false;
  co_return own;
}

} // namespace coppice::storage
