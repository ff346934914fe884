#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

namespace coppice::storage {

template <class T = void>
class task;

namespace task_parts {

/// What every promise does: starts when awaited, and goes on with who awaits it when it ends.
class promise_base {
public:
  struct final_awaiter {
    bool await_ready() const noexcept {
      return false;
    }
    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> ended) noexcept {
      auto next = ended.promise().continuation_;
      return next ? next : std::noop_coroutine();
    }
    void await_resume() noexcept {}
  };

  std::suspend_always initial_suspend() noexcept {
    return {};
  }
  final_awaiter final_suspend() noexcept {
    return {};
  }
  /// Failures are values here; what is thrown is our bug or the end of memory.
  [[noreturn]] void unhandled_exception() noexcept {
    std::terminate();
  }

  std::coroutine_handle<> continuation_;
};

template <class T>
class promise : public promise_base {
public:
  task<T> get_return_object();
  template <class U>
  void return_value(U&& value) {
    value_.emplace(std::forward<U>(value));
  }
  T take() {
    return std::move(*value_);
  }

private:
  std::optional<T> value_;
};

template <>
class promise<void> : public promise_base {
public:
  task<void> get_return_object();
  void return_void() {}
  void take() {}
};

} // namespace task_parts

/// A step of work that waits for requests of a ring without holding its thread.
///
/// Starts when it is awaited, always on the thread of the ring that it uses; owns its coroutine, so
/// a task that was never awaited costs nothing and one that is destroyed while it waits is a bug.
template <class T>
class [[nodiscard]] task {
public:
  using promise_type = task_parts::promise<T>;

  explicit task(std::coroutine_handle<promise_type> handle) : handle_{handle} {}
  task(task&& other) noexcept : handle_{std::exchange(other.handle_, nullptr)} {}
  task& operator=(task&&) = delete;
  ~task() {
    if (handle_) {
      handle_.destroy();
    }
  }

  bool await_ready() const noexcept {
    return false;
  }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> caller) noexcept {
    handle_.promise().continuation_ = caller;
    return handle_;
  }
  T await_resume() {
    return handle_.promise().take();
  }

private:
  std::coroutine_handle<promise_type> handle_;
};

namespace task_parts {

template <class T>
task<T> promise<T>::get_return_object() {
  return task<T>{std::coroutine_handle<promise>::from_promise(*this)};
}

inline task<void> promise<void>::get_return_object() {
  return task<void>{std::coroutine_handle<promise>::from_promise(*this)};
}

/// A coroutine that nobody waits for.
struct detached {
  struct promise_type {
    detached get_return_object() {
      return {};
    }
    std::suspend_never initial_suspend() noexcept {
      return {};
    }
    std::suspend_never final_suspend() noexcept {
      return {};
    }
    void return_void() {}
    [[noreturn]] void unhandled_exception() noexcept {
      std::terminate();
    }
  };
};

} // namespace task_parts

/// Runs `work` to its end without anybody waiting for it, and then calls `then` with what it gave.
template <class T, class Then>
task_parts::detached start(task<T> work, Then then) {
  then(co_await std::move(work));
}

inline task_parts::detached start(task<void> work) {
  co_await std::move(work);
}

} // namespace coppice::storage
