#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include <memory>
#include <thread>

namespace coppice::vmm {

class launcher;

/// One thread that waits for every child process, QMP socket and guest channel of the node.
/// Actors never block on them: callbacks run on this thread and must only post messages.
/// Owner: main. Destroying it stops the thread; everything that uses it must be gone before.
class event_loop {
public:
  /// `jailer` starts the child processes that are given a kind; without one they are not jailed.
  explicit event_loop(std::shared_ptr<launcher> jailer = nullptr);
  ~event_loop();
  event_loop(const event_loop&) = delete;
  event_loop& operator=(const event_loop&) = delete;

  boost::asio::io_context& context() {
    return context_;
  }

  /// Null: there is none.
  launcher* jailer() const {
    return jailer_.get();
  }

private:
  std::shared_ptr<launcher> jailer_;
  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::thread thread_;
};

} // namespace coppice::vmm
