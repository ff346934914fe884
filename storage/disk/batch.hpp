#pragma once

#include "storage/ring/ring.hpp"

#include <coroutine>
#include <cstddef>
#include <span>
#include <vector>

namespace coppice::storage {

/// Several requests of which none waits for another: `co_await batch.all()` submits them together
/// and goes on when the last has ended. Results are in the requests. At least one; used once.
class batch {
public:
  explicit batch(ring& on) : ring_{on} {}
  batch(const batch&) = delete;
  batch& operator=(const batch&) = delete;

  void add(io_request request) {
    requests_.push_back({request, this});
  }
  std::size_t size() const {
    return requests_.size();
  }
  const io_request& operator[](std::size_t i) const {
    return requests_[i];
  }

  class awaiter {
  public:
    explicit awaiter(batch& of) : of_{of} {}
    bool await_ready() const noexcept {
      return of_.requests_.empty();
    }
    void await_suspend(std::coroutine_handle<> caller) {
      of_.caller_ = caller;
      of_.left_ = of_.requests_.size();
      for (auto& r : of_.requests_) {
        r.done = [](io_request& ended) {
          auto& whole = *static_cast<member&>(ended).of;
          if (--whole.left_ == 0) {
            whole.caller_.resume();
          }
        };
        of_.ring_.submit(r);
      }
    }
    void await_resume() const noexcept {
      // results are in the requests
    }

  private:
    batch& of_;
  };

  awaiter all() {
    return awaiter{*this};
  }

private:
  struct member : io_request {
    member(const io_request& r, batch* whole) : io_request{r}, of{whole} {}
    batch* of;
  };
  ring& ring_;
  std::vector<member> requests_;
  std::size_t left_ = 0;
  std::coroutine_handle<> caller_;
};

} // namespace coppice::storage
