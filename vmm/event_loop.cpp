#include "vmm/event_loop.hpp"

#include "vmm/launcher.hpp"

#include <csignal>
#include <utility>

namespace coppice::vmm {

event_loop::event_loop(std::shared_ptr<launcher> jailer)
    : jailer_{std::move(jailer)}, work_{boost::asio::make_work_guard(context_)} {
  // Signals are the business of the thread that made us: the new one starts with all blocked.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread{[this] {
    context_.run();
  }};
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

event_loop::~event_loop() {
  work_.reset();
  context_.stop();
  thread_.join();
}

} // namespace coppice::vmm
