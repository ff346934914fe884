#include "gateway/gateway.hpp"

#include <caf/exit_reason.hpp>

namespace coppice::gateway {

void gate::enter() {
  std::scoped_lock lock{mutex_};
  ++count_;
}

void gate::leave() {
  std::scoped_lock lock{mutex_};
  if (--count_ == 0) {
    empty_.notify_all(); // under the lock: the waiter may destroy what it waited for
  }
}

void gate::wait_until_empty() {
  std::unique_lock lock{mutex_};
  empty_.wait(lock, [this] { return count_ == 0; });
}

namespace {

caf::behavior door_actor(caf::event_based_actor* self) {
  return {
      [self](const submission& s) {
        // Taken out, so that what the closure holds goes with this message, whoever holds that.
        auto run = std::exchange(*s.run, nullptr);
        if (run) {
          run(self);
        }
      },
  };
}

} // namespace

door::door(caf::actor_system& system) : actor_{system.spawn(door_actor)} {
  // nop
}

door::~door() {
  close();
}

void door::submit(std::function<void(caf::event_based_actor*)> work) {
  using function = std::function<void(caf::event_based_actor*)>;
  caf::anon_send(actor_, submission{std::make_shared<function>(std::move(work))});
}

void door::close() {
  caf::anon_send_exit(actor_, caf::exit_reason::user_shutdown);
  gate_->wait_until_empty();
}

} // namespace coppice::gateway
