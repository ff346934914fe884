#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include <thread>

namespace coppice::vmm {

/// One thread that waits for every child process, QMP socket and guest channel of the node.
/// Actors never block on them: callbacks run on this thread and must only post messages.
/// Owner: main. Destroying it stops the thread; everything that uses it must be gone before.
class event_loop {
public:
  event_loop();
  ~event_loop();
  event_loop(const event_loop&) = delete;
  event_loop& operator=(const event_loop&) = delete;

  boost::asio::io_context& context() {
    return context_;
  }

private:
  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::thread thread_;
};

} // namespace coppice::vmm
