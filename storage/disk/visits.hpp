#pragma once

#include "storage/ring/task.hpp"

#include <coroutine>
#include <cstddef>
#include <utility>

namespace coppice::storage {

/// The tasks that are under way in one object of a loop.
///
/// Problem: an object must not go away while a task of it waits for the ring. So each task holds a
/// `one` from its first line on, and who ends the object waits for the last of them. Owner: the
/// loop's thread.
class visits {
public:
  class one {
  public:
    explicit one(visits& of) : of_{of} {
      ++of_.count_;
    }
    ~one() {
      if (--of_.count_ == 0 && of_.waiting_) {
        std::exchange(of_.waiting_, nullptr).resume();
      }
    }
    one(const one&) = delete;
    one& operator=(const one&) = delete;

  private:
    visits& of_;
  };

  /// Ends with the last of them. Only one may wait.
  task<void> ended() {
    struct last {
      visits& of;
      bool await_ready() const noexcept {
        return of.count_ == 0;
      }
      void await_suspend(std::coroutine_handle<> caller) {
        of.waiting_ = caller;
      }
      void await_resume() const noexcept {
        // nop
      }
    };
    last end{*this};
    co_await end;
  }

private:
  std::size_t count_ = 0;
  std::coroutine_handle<> waiting_;
};

} // namespace coppice::storage
