#include "actors/vm_pool.hpp"

#include "actors/log.hpp"
#include "actors/node_capacity.hpp"
#include "actors/requests.hpp"
#include "actors/run_frames.hpp"

#include <caf/send.hpp>

#include <algorithm>
#include <utility>

namespace coppice {

namespace {

/// What a warm-up may write: the agent's own small file system.
constexpr std::uint64_t warm_disk_bytes_max = 64u << 20;

} // namespace

// -- members
// ---------------------------------------------------------------------------------------

vm_pool_state::members::iterator vm_pool_state::find(std::uint64_t number) {
  return std::find_if(members_.begin(), members_.end(),
                      [&](const member& m) { return m.number == number; });
}

vm_pool_state::members::iterator vm_pool_state::find(const caf::actor_addr& vm) {
  return std::find_if(members_.begin(), members_.end(),
                      [&](const member& m) { return m.vm && m.vm.address() == vm; });
}

template <class Answer, class Then>
auto vm_pool_state::still(std::uint64_t number, Then then) {
  return [this, number, then = std::move(then)](const frame<Answer>& message) {
    if (auto one = find(number); one != members_.end()) {
      then(*one, message);
    }
  };
}

auto vm_pool_state::otherwise(std::uint64_t number) {
  return [this, number](const caf::error& e) {
    if (auto one = find(number); one != members_.end()) {
      drop(one, text_of(e));
    }
  };
}

void vm_pool_state::drop(members::iterator which, const std::string& why) {
  if (!why.empty()) {
    log::warn("a waiting VM is replaced", "reason", why);
    plan_->failed(self_->clock().now());
  }
  if (which->vm) {
    self_->demonitor(which->vm.address());
    self_->send_exit(which->vm, caf::exit_reason::user_shutdown); // kills its process
  }
  if (which->at != stage::opening) {
    caf::anon_send(parts_->store, make_frame<proto::DiscardOverlay>(
                                      [&](auto r) { which->overlay.to(r.initOverlay()); }));
    self_->send(parts_->store,
                make_frame<proto::CloseDiskSlot>([&](auto r) { r.setSlot(which->slot); }));
  }
  members_.erase(which);
  count();
}

void vm_pool_state::count() const {
  const auto waiting = static_cast<std::size_t>(std::count_if(
      members_.begin(), members_.end(), [](const member& m) { return m.at == stage::waiting; }));
  parts_->metrics->set_pool({running_.size(), waiting, members_.size() - waiting,
                             members_.size() * pool_plan::waiting_bytes});
}

// -- handing out
// -----------------------------------------------------------------------------------

vm_pool_state::taken vm_pool_state::take(proto::TakeVm::Reader request) {
  auto of = parts_->usual;
  if (request.getCpus() != 0) {
    of = {request.getCpus(), request.getMemoryMib()};
  }
  plan_->asked(of, self_->clock().now());
  auto asker = caf::actor_cast<work_actor>(self_->current_sender()); // the promise takes it
  auto promise = self_->make_response_promise<frame<proto::VmTaken>, vm_actor>();
  hand_out(of, asker, promise);
  return promise;
}

void vm_pool_state::hand_out(const pool_plan::class_key& of, const work_actor& asker,
                             taken promise) {
  auto found = members_.end();
  for (auto one = members_.begin(); one != members_.end(); ++one) {
    if (one->at == stage::waiting && one->of == of &&
        (found == members_.end() || one->from > found->from)) {
      found = one; // of the newest template
    }
  }
  if (found == members_.end()) {
    make_new(of, asker, std::move(promise));
    return;
  }
  auto one = std::move(*found);
  members_.erase(found);
  self_->demonitor(one.vm.address());
  self_->request(one.vm, adopt_max, make_frame<proto::AdoptVm>(), asker)
      .then(
          [this, one, promise](const frame<proto::Done>&) mutable {
            handed_out(one.slot, true, one.of, one.vm, std::move(promise));
          },
          [this, one, of, asker, promise](const caf::error& e) mutable {
            log::warn("a waiting VM is replaced", "reason", text_of(e));
            self_->send_exit(one.vm, caf::exit_reason::user_shutdown);
            self_->send(parts_->store,
                        make_frame<proto::CloseDiskSlot>([&](auto r) { r.setSlot(one.slot); }));
            hand_out(of, asker, std::move(promise));
          });
}

void vm_pool_state::make_new(const pool_plan::class_key& of, const work_actor& asker,
                             taken promise) {
  self_->request(parts_->store, caf::infinite, make_frame<proto::OpenDiskSlot>())
      .then(
          [this, of, asker, promise](const frame<proto::DiskSlot>& opened) mutable {
            handed_out(opened.view()->getSlot(), false, of, parts_->spawn_vm(self_, asker),
                       std::move(promise));
          },
          [promise](const caf::error& e) mutable { promise.deliver(e); });
}

void vm_pool_state::handed_out(std::uint64_t slot, bool is_warm, const pool_plan::class_key& of,
                               const vm_actor& vm, taken promise) {
  self_->monitor(vm);
  const auto bytes = (std::uint64_t{of.second} + vm_overhead_mib) << 20;
  running_.emplace(vm.address(), bytes);
  running_bytes_ += bytes;
  parts_->metrics->vm_taken(is_warm);
  trim();
  count();
  promise.deliver(make_frame<proto::VmTaken>([&](auto r) {
                    r.setWarm(is_warm);
                    r.setSlot(slot);
                  }),
                  vm);
}

// -- filling up
// ------------------------------------------------------------------------------------

void vm_pool_state::fill() {
  const auto now = self_->clock().now();
  const auto in_the_making = std::count_if(members_.begin(), members_.end(),
                                           [](const member& m) { return m.at != stage::waiting; });
  // One at a time, and only with a core to spare: a run must not pay for the next one.
  if (in_the_making > 0 || running_.size() >= parts_->cores || now < plan_->not_before()) {
    return;
  }
  for (const auto& [of, count] : plan_->wanted(now, parts_->free_memory_bytes(), room_bytes())) {
    const auto there = std::count_if(members_.begin(), members_.end(),
                                     [of = of](const member& m) { return m.of == of; });
    if (static_cast<std::size_t>(there) >= count) {
      continue;
    }
    if (const auto from = parts_->template_of(of); from != 0) {
      begin(of, from);
      return;
    }
  }
}

void vm_pool_state::begin(const pool_plan::class_key& of, std::uint64_t from) {
  member made;
  made.number = ++last_number_;
  made.of = of;
  made.from = from;
  made.overlay = uuid::random();
  made.since = self_->clock().now();
  members_.push_back(made);
  count();
  const auto number = made.number;
  self_->request(parts_->store, caf::infinite, make_frame<proto::OpenDiskSlot>())
      .then(
          [this, number](const frame<proto::DiskSlot>& opened) {
            const auto slot = opened.view()->getSlot();
            auto one = find(number);
            if (one == members_.end()) {
              self_->send(parts_->store,
                          make_frame<proto::CloseDiskSlot>([&](auto r) { r.setSlot(slot); }));
              return;
            }
            one->slot = slot;
            attach(*one);
          },
          otherwise(number));
}

void vm_pool_state::attach(member& one) {
  one.at = stage::attaching;
  self_
      ->request(parts_->store, caf::infinite, make_frame<proto::AttachOverlay>([&](auto r) {
                  one.overlay.to(r.initOverlay());
                  r.setSlot(one.slot);
                  r.setOwnBytesMax(warm_disk_bytes_max);
                }))
      .then(still<proto::OverlayAttached>(one.number, [this](member& m, const auto&) { start(m); }),
            otherwise(one.number));
}

void vm_pool_state::start(member& one) {
  one.at = stage::starting;
  one.vm = parts_->spawn_vm(self_, caf::actor_cast<work_actor>(self_));
  self_->monitor(one.vm);
  self_
      ->request(one.vm, caf::infinite, make_frame<proto::StartVm>([&](auto r) {
                  one.overlay.to(r.initOverlay());
                  r.setSlot(one.slot);
                  r.setCpus(one.of.first);
                  r.setMemoryMib(one.of.second);
                }))
      .then(still<proto::VmReady>(
                one.number,
                [this](member& m, const frame<proto::VmReady>& ready) {
                  m.at = stage::warming;
                  self_->request(m.vm, caf::infinite, warm_up_order(ready.view()->getNextRun()))
                      .then(still<proto::Done>(m.number, [](member&, const auto&) {}),
                            otherwise(m.number));
                }),
            otherwise(one.number));
}

void vm_pool_state::guest_said(const frame<proto::FromGuest>& message) {
  auto one = find(caf::actor_cast<caf::actor_addr>(self_->current_sender()));
  if (one == members_.end() || one->at != stage::warming) {
    return;
  }
  auto view = message.view();
  if (view->isFailed()) {
    drop(one, std::string{"its warm-up failed: "} + view->getFailed().getError().cStr());
  } else if (view->isExited() && view->getExited().getResult().getExitCode() != 0) {
    drop(one, "its warm-up ended with status " +
                  std::to_string(view->getExited().getResult().getExitCode()));
  } else if (view->isFinished()) {
    if (view->getFinished().getClean()) {
      pause(*one);
    } else {
      drop(one, std::string{"its warm-up did not end: "} + view->getFinished().getError().cStr());
    }
  }
}

void vm_pool_state::pause(member& one) {
  one.at = stage::pausing;
  self_
      ->request(parts_->store, caf::infinite,
                make_frame<proto::DiscardOverlay>([&](auto r) { one.overlay.to(r.initOverlay()); }))
      .then(still<proto::OverlayDiscarded>(
                one.number,
                [this](member& m, const auto&) {
                  self_->request(m.vm, caf::infinite, make_frame<proto::PauseVm>())
                      .then(still<proto::Done>(m.number,
                                               [this](member& ready, const auto&) {
                                                 ready.at = stage::waiting;
                                                 plan_->succeeded();
                                                 count();
                                                 log::debug("a vm waits", "cpus", ready.of.first,
                                                            "memory_mib", ready.of.second);
                                                 fill();
                                               }),
                            otherwise(m.number));
                }),
            otherwise(one.number));
}

// -- looking after them
// ----------------------------------------------------------------------------

void vm_pool_state::look() {
  const auto now = self_->clock().now();
  for (auto one = members_.begin(); one != members_.end();) {
    const auto which = one++;
    if (which->at != stage::waiting && now - which->since > ready_max) {
      drop(which, "it did not get ready in time");
    }
  }
  trim();
  replace_outdated();
  fill();
}

std::uint64_t vm_pool_state::room_bytes() const {
  const auto most = parts_->memory_max_bytes();
  return most - std::min(most, running_bytes_);
}

void vm_pool_state::trim() {
  const auto room = room_bytes();
  auto wanted = plan_->wanted(self_->clock().now(), parts_->free_memory_bytes(), room);
  // One in the making is worth keeping unless its memory is needed.
  const auto is_short = members_.size() > pool_plan::most_in(room);
  for (auto one = members_.begin(); one != members_.end();) {
    const auto which = one++;
    auto& left = wanted[which->of];
    if (left > 0) {
      --left;
    } else if (which->at == stage::waiting || is_short) {
      drop(which, {});
    }
  }
}

void vm_pool_state::replace_outdated() {
  const auto is_in_the_making = [](const member& m) {
    return m.at != stage::waiting;
  };
  if (std::any_of(members_.begin(), members_.end(), is_in_the_making)) {
    return; // the others serve until the last one is replaced
  }
  const auto outdated = std::find_if(members_.begin(), members_.end(), [&](const member& m) {
    const auto newest = parts_->template_of(m.of);
    return newest != 0 && newest != m.from;
  });
  if (outdated != members_.end()) {
    drop(outdated, {});
  }
}

void vm_pool_state::arm() {
  self_->delayed_send(self_, look_interval, make_frame<proto::Tick>([](auto r) { r.setTimer(1); }));
}

vm_pool_actor::behavior_type
vm_pool_state::make_behavior(std::shared_ptr<const vm_pool_parts> parts) {
  parts_ = std::move(parts);
  plan_ = std::make_unique<pool_plan>(parts_->limits, parts_->usual);
  self_->set_down_handler([this](const caf::down_msg& down) {
    if (auto one = find(down.source); one != members_.end()) {
      drop(one, "its supervisor died");
    }
    if (auto known = running_.find(down.source); known != running_.end()) {
      running_bytes_ -= known->second;
      running_.erase(known);
      count();
      fill();
    }
  });
  arm();
  return {
      [this](const frame<proto::TakeVm>& r) {
        auto view = r.view();
        return take(*view);
      },
      [](const frame<proto::AbortWork>&) {
        // an operation's word to its work; never sent here
      },
      [this](const frame<proto::FromGuest>& m) {
        guest_said(m);
        return make_frame<proto::Done>();
      },
      [this](const frame<proto::VmFailed>& m) {
        auto one = find(caf::actor_cast<caf::actor_addr>(self_->current_sender()));
        if (one != members_.end()) {
          drop(one, m.view()->getText().cStr());
          fill();
        }
      },
      [](const frame<proto::ChildExited>&) {
        // an import's; never sent here
      },
      [this](const frame<proto::Tick>& t) {
        if (t.view()->getTimer() == 1) {
          look();
          arm();
        } else {
          fill(); // there is a new template
        }
      },
      [](const frame<proto::ProcessOrder>&) -> caf::result<frame<proto::ProcessAnswer>> {
        return make_error(ec::conflict, "no client's process runs in a machine that waits");
      },
  };
}

vm_pool_actor::behavior_type vm_pool(vm_pool_actor::stateful_pointer<vm_pool_state> self,
                                     std::shared_ptr<const vm_pool_parts> parts) {
  return self->state.make_behavior(std::move(parts));
}

} // namespace coppice
