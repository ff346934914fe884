#include "actors/vm.hpp"

#include "actors/log.hpp"
#include "actors/requests.hpp"

#include <caf/send.hpp>

#include <utility>

namespace coppice {

namespace {

/// A callback for the event loop's thread that posts to the actor if it still lives.
template <class Make>
auto post_to(const vm_actor& target, Make make) {
  auto weak = caf::actor_cast<caf::actor_addr>(target);
  return [weak, make = std::move(make)](auto&&... args) {
    if (auto alive = caf::actor_cast<vm_actor>(weak)) {
      caf::anon_send(alive, make(std::forward<decltype(args)>(args)...));
    }
  };
}

} // namespace

caf::result<frame<proto::VmReady>> vm_state::start(const frame<proto::StartVm>& request) {
  if (stage_ != vm_stage::idle) {
    return make_error(ec::conflict, "the VM was started before");
  }
  auto view = request.view();
  operation_ = uuid::from(view->getOperation());
  auto self = caf::actor_cast<vm_actor>(self_);
  auto forward = [](frame<proto::FromGuest> message) {
    return message;
  };
  vmm::machine::callbacks on;
  on.on_ready = post_to(self, forward);
  on.on_message = post_to(self, forward);
  on.on_failed = post_to(self, [](const std::string& text) {
    return make_frame<proto::VmFailed>([&](auto root) { root.setText(text); });
  });
  on.on_gone = post_to(self, [](bool killed) {
    return make_frame<proto::VmStopped>([&](auto root) { root.setKilled(killed); });
  });
  on.on_writable = post_to(self, []() { return make_frame<proto::GuestWritable>(); });
  started_at_ = self_->clock().now();
  auto started =
      vmm::machine::start(*parts_->loop, parts_->machine,
                          parts_->disk_of(uuid::from(view->getOverlay())), std::move(on));
  if (started.has_error()) {
    stage_ = vm_stage::gone;
    return to_error(started.error());
  }
  machine_ = std::move(*started);
  stage_ = vm_stage::booting;
  log::debug("vm started", "operation", operation_, "pid", machine_->pid());
  ready_ = self_->make_response_promise<frame<proto::VmReady>>();
  return *ready_;
}

void vm_state::guest_said(const frame<proto::FromGuest>& message) {
  auto size = message.bytes().size();
  auto view = message.view();
  if (view->isReady()) {
    if (stage_ == vm_stage::booting) {
      stage_ = vm_stage::ready;
      auto boot_us = elapsed_us(started_at_, self_->clock().now());
      std::exchange(ready_, std::nullopt)->deliver(make_frame<proto::VmReady>([&](auto root) {
        root.setBootUs(boot_us);
        root.setKernel(view->getReady().getKernel());
        root.setMachine(view->getReady().getMachine());
        root.setAccelerator(std::string{vmm::to_string(parts_->machine.accel)});
      }));
    }
    machine_->consumed(size);
    return;
  }
  auto machine = machine_;
  self_->request(owner_, caf::infinite, message)
      .then([machine, size](const frame<proto::Done>&) { machine->consumed(size); },
            [machine, size](const caf::error&) { machine->consumed(size); });
}

caf::result<frame<proto::Done>> vm_state::send(const frame<proto::ToGuest>& message) {
  if (stage_ != vm_stage::ready) {
    return make_error(ec::vm, "the guest cannot be reached");
  }
  if (sends_.size() >= sends_max) {
    return make_error(ec::busy, "too many messages wait for the guest");
  }
  sends_.push_back({message, self_->make_response_promise<frame<proto::Done>>()});
  auto promise = sends_.back().promise;
  writable();
  return promise;
}

void vm_state::writable() {
  while (stage_ == vm_stage::ready && !sends_.empty()) {
    auto sent = machine_->send(sends_.front().message);
    if (sent.has_error()) {
      auto reason = sent.error();
      if (reason.code == vmm::ec::busy) {
        return; // on_writable comes
      }
      sends_.front().promise.deliver(to_error(reason));
    } else {
      sends_.front().promise.deliver(make_frame<proto::Done>());
    }
    sends_.pop_front();
  }
}

caf::result<frame<proto::VmStopped>> vm_state::stop(const frame<proto::StopVm>& request) {
  if (stage_ == vm_stage::idle || stage_ == vm_stage::gone) {
    stage_ = vm_stage::gone;
    return make_frame<proto::VmStopped>();
  }
  stage_ = vm_stage::stopping;
  stopped_.push_back(self_->make_response_promise<frame<proto::VmStopped>>());
  auto promise = stopped_.back();
  if (request.view()->getGraceful()) {
    machine_->quit();
  } else {
    machine_->kill(); // also when it was asked to quit before
  }
  return promise;
}

void vm_state::failed(const frame<proto::VmFailed>& why) {
  auto view = why.view();
  if (stage_ == vm_stage::booting) {
    stage_ = vm_stage::stopping;
    std::exchange(ready_, std::nullopt)->deliver(make_error(ec::vm, view->getText().cStr()));
    machine_->kill();
  } else if (stage_ == vm_stage::ready) {
    log::warn("vm failed", "operation", operation_, "error", view->getText().cStr());
    self_->send(owner_, why);
  }
}

void vm_state::gone(const frame<proto::VmStopped>& how) {
  stage_ = vm_stage::gone;
  for (auto& s : sends_) {
    s.promise.deliver(make_error(ec::vm, "the VM is gone"));
  }
  sends_.clear();
  if (ready_) {
    std::exchange(ready_, std::nullopt)->deliver(make_error(ec::vm, "the VM is gone"));
  }
  for (auto& s : std::exchange(stopped_, {})) {
    s.deliver(how);
  }
}

vm_actor::behavior_type vm_state::make_behavior(std::shared_ptr<const vm_parts> parts,
                                                const work_actor& owner) {
  parts_ = std::move(parts);
  owner_ = owner;
  self_->monitor(owner_);
  self_->set_down_handler([this](const caf::down_msg&) {
    self_->quit(caf::exit_reason::user_shutdown); // kills the process with our state
  });
  return {
      [this](const frame<proto::StartVm>& r) { return start(r); },
      [this](const frame<proto::ToGuest>& m) { return send(m); },
      [this](const frame<proto::StopVm>& r) { return stop(r); },
      [this](const frame<proto::FromGuest>& m) { guest_said(m); },
      [this](const frame<proto::VmFailed>& why) { failed(why); },
      [this](const frame<proto::VmStopped>& how) { gone(how); },
      [this](const frame<proto::GuestWritable>&) { writable(); },
  };
}

vm_actor::behavior_type vm(vm_actor::stateful_pointer<vm_state> self,
                           std::shared_ptr<const vm_parts> parts, work_actor owner) {
  return self->state.make_behavior(std::move(parts), owner);
}

} // namespace coppice
