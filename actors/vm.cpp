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

vmm::machine::answer when_carried_out(const vm_actor& target) {
  return post_to(target, [](const result<void>& done) {
    return make_frame<proto::VmOrderDone>([&](auto root) {
      if (!done) {
        root.setError(done.error().text);
      }
    });
  });
}

} // namespace

caf::result<frame<proto::VmReady>> vm_state::start(proto::StartVm::Reader request) {
  operation_ = uuid::from(request.getOperation());
  started_at_ = self_->clock().now();
  switch (stage_) {
  case vm_stage::idle:
    return boot(request);
  case vm_stage::paused:
    return resume();
  case vm_stage::stopping:
  case vm_stage::gone:
    return make_error(ec::gone, "the VM has died while it waited");
  default:
    return make_error(ec::conflict, "the VM was started before");
  }
}

caf::result<frame<proto::VmReady>> vm_state::boot(proto::StartVm::Reader request) {
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
  auto options = parts_->machine;
  if (request.getCpus() != 0) {
    options.cpus = request.getCpus();
    options.memory_mib = request.getMemoryMib();
  }
  options.from = parts_->templates ? parts_->templates->find(options) : nullptr;
  from_ = options.from;
  way_ = from_ ? proto::VmStart::TEMPLATE : proto::VmStart::COLD;
  auto disk = parts_->disk_of(request.getSlot());
  auto started = vmm::machine::start(*parts_->loop, options, std::move(disk), std::move(on));
  if (started.has_error()) {
    stage_ = vm_stage::gone;
    if (from_) {
      parts_->templates->refuse(from_, started.error().text);
      return make_error(ec::gone, started.error().text);
    }
    return to_error(started.error());
  }
  machine_ = std::move(*started);
  stage_ = vm_stage::booting;
  log::debug("vm started", "operation", operation_, "pid", machine_->pid());
  ready_ = self_->make_response_promise<frame<proto::VmReady>>();
  return *ready_;
}

caf::result<frame<proto::VmReady>> vm_state::resume() {
  stage_ = vm_stage::resuming;
  way_ = proto::VmStart::POOL;
  machine_->resume(when_carried_out(caf::actor_cast<vm_actor>(self_)));
  ready_ = self_->make_response_promise<frame<proto::VmReady>>();
  return *ready_;
}

caf::result<frame<proto::Done>> vm_state::pause() {
  if (stage_ != vm_stage::ready) {
    return make_error(ec::conflict, "the VM does not run");
  }
  stage_ = vm_stage::pausing;
  machine_->pause(when_carried_out(caf::actor_cast<vm_actor>(self_)));
  paused_ = self_->make_response_promise<frame<proto::Done>>();
  return *paused_;
}

void vm_state::carried_out(proto::VmOrderDone::Reader order) {
  const std::string error = order.getError();
  if (stage_ == vm_stage::pausing) {
    stage_ = error.empty() ? vm_stage::paused : vm_stage::stopping;
    auto promise = std::exchange(paused_, std::nullopt);
    if (error.empty()) {
      promise->deliver(make_frame<proto::Done>());
    } else {
      promise->deliver(make_error(ec::vm, "it did not stand still: " + error));
    }
  } else if (stage_ == vm_stage::resuming) {
    stage_ = error.empty() ? vm_stage::ready : vm_stage::stopping;
    auto promise = std::exchange(ready_, std::nullopt);
    if (error.empty()) {
      promise->deliver(ready_report());
    } else {
      promise->deliver(make_error(ec::gone, "it did not go on: " + error));
    }
  }
  if (stage_ == vm_stage::stopping) {
    machine_->kill();
  }
}

caf::result<frame<proto::Done>> vm_state::adopt(const work_actor& owner) {
  if (stage_ == vm_stage::stopping || stage_ == vm_stage::gone) {
    return make_error(ec::gone, "the VM has died while it waited");
  }
  self_->demonitor(owner_.address());
  owner_ = owner;
  self_->monitor(owner_);
  return make_frame<proto::Done>();
}

frame<proto::VmReady> vm_state::ready_report() const {
  auto took_us = elapsed_us(started_at_, self_->clock().now());
  auto view = said_ready_.view();
  return make_frame<proto::VmReady>([&](auto root) {
    root.setBootUs(took_us);
    root.setKernel(view->getReady().getKernel());
    root.setMachine(view->getReady().getMachine());
    root.setAccelerator(std::string{vmm::to_string(parts_->machine.accel)});
    root.setStart(way_);
    root.setNextRun(next_run_);
  });
}

void vm_state::guest_said(const frame<proto::FromGuest>& message) {
  auto size = message.bytes().size();
  if (message.view()->isReady()) {
    if (stage_ == vm_stage::booting) {
      stage_ = vm_stage::ready;
      said_ready_ = message;
      std::exchange(ready_, std::nullopt)->deliver(ready_report());
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
  if (auto view = message.view(); view->isStart()) {
    next_run_ = view->getRun() + 1;
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
    if (from_) {
      parts_->templates->refuse(from_, view->getText().cStr());
    }
    std::exchange(ready_, std::nullopt)
        ->deliver(make_error(from_ ? ec::gone : ec::vm, view->getText().cStr()));
    machine_->kill();
  } else if (stage_ == vm_stage::ready) {
    log::warn("vm failed", "operation", operation_, "error", view->getText().cStr());
    self_->send(owner_, why);
  } else if (stage_ == vm_stage::paused) {
    log::warn("vm failed while it waited", "error", view->getText().cStr());
    stage_ = vm_stage::stopping;
    self_->send(owner_, why);
    machine_->kill();
  }
}

void vm_state::gone(const frame<proto::VmStopped>& how) {
  stage_ = vm_stage::gone;
  for (auto& s : sends_) {
    s.promise.deliver(make_error(ec::vm, "the VM is gone"));
  }
  sends_.clear();
  if (ready_) {
    std::exchange(ready_, std::nullopt)
        ->deliver(make_error(way_ == proto::VmStart::COLD ? ec::vm : ec::gone, "the VM is gone"));
  }
  if (paused_) {
    std::exchange(paused_, std::nullopt)->deliver(make_error(ec::vm, "the VM is gone"));
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
  self_->set_down_handler([this](const caf::down_msg& down) {
    if (down.source == owner_) {
      self_->quit(caf::exit_reason::user_shutdown); // kills the process with our state
    }
  });
  return {
      [this](const frame<proto::StartVm>& r) {
        auto view = r.view();
        return start(*view);
      },
      [this](const frame<proto::PauseVm>&) { return pause(); },
      [this](const frame<proto::AdoptVm>&, const work_actor& next) { return adopt(next); },
      [this](const frame<proto::VmOrderDone>& r) {
        auto view = r.view();
        carried_out(*view);
      },
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
