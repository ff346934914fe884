#include "actors/instance.hpp"

#include "actors/log.hpp"
#include "actors/requests.hpp"
#include "actors/run_frames.hpp"

#include <caf/send.hpp>

#include <algorithm>
#include <utility>

namespace coppice {

void instance_state::queue() {
  lap_ = self_->clock().now();
  auto view = record_.view();
  self_
      ->request(parts_->scheduler, caf::infinite, make_frame<proto::AcquireSlot>([&](auto r) {
                  id_.to(r.initOperation());
                  r.setProject(view->getProject());
                  r.setKind(proto::OperationKind::INSTANCE);
                  auto request = request_of(*view);
                  r.setCpus(request.getCpus());
                  r.setMemoryMib(request.getMemoryMib());
                  r.setPriority(request.getPriority());
                }))
      .then(
          [this](const frame<proto::SlotGranted>&) {
            if (!at(instance_stage::queued)) {
              return;
            }
            auto waited = lap_us();
            phases_ = edited(phases_, [&](auto p) { p.setQueueUs(waited); });
            self_->send(operation_, make_frame<proto::OperationStarted>(
                                        [&](auto r) { r.setSlotWaitUs(waited); }));
            pin();
          },
          [this](const caf::error& e) {
            if (at(instance_stage::queued)) {
              fail(text_of(e));
            }
          });
}

void instance_state::pin() {
  stage_ = instance_stage::pinning;
  auto view = record_.view();
  self_
      ->request(parts_->images, caf::infinite, make_frame<proto::PinImage>([&](auto r) {
                  r.setProject(view->getProject());
                  image_.to(r.initImage());
                  id_.to(r.initOperation());
                }))
      .then(
          [this](const frame<proto::ImageRow>& row) {
            if (at(instance_stage::pinning)) {
              parent_ = row;
              take();
            }
          },
          [this](const caf::error& e) {
            if (at(instance_stage::pinning)) {
              fail("image " + image_.text() + ": " + text_of(e));
            }
          });
}

void instance_state::take() {
  stage_ = instance_stage::taking;
  is_taking_ = true;
  ++takes_;
  auto view = record_.view();
  auto request = request_of(*view);
  self_
      ->request(parts_->pool, caf::infinite, make_frame<proto::TakeVm>([&](auto r) {
                  id_.to(r.initOperation());
                  image_.to(r.initImage());
                  r.setCpus(request.getCpus());
                  r.setMemoryMib(request.getMemoryMib());
                }))
      .then(
          [this](const frame<proto::VmTaken>& taken, const vm_actor& vm) {
            is_taking_ = false;
            vm_ = vm;
            self_->monitor(vm_);
            disk_slot_ = taken.view()->getSlot();
            if (at(instance_stage::taking)) {
              attach();
            } else {
              leave(); // which has waited for this
            }
          },
          [this](const caf::error& e) {
            is_taking_ = false;
            if (at(instance_stage::taking)) {
              fail("no microVM could be had: " + text_of(e));
            } else {
              leave();
            }
          });
}

void instance_state::take_another(const std::string& why) {
  log::warn("a microVM did not start, another one is taken", "operation", id_, "reason", why);
  stage_ = instance_stage::taking;
  self_->demonitor(std::exchange(vm_, nullptr).address()); // it is killed already
  is_taking_ = true;
  self_
      ->request(parts_->store, caf::infinite, make_frame<proto::DiscardOverlay>([&](auto r) {
                  result_image_.to(r.initOverlay());
                  r.setCloseSlot(true);
                }))
      .then(
          [this](const frame<proto::OverlayDiscarded>&) {
            is_taking_ = false;
            if (at(instance_stage::taking)) {
              take();
            } else {
              leave();
            }
          },
          [this](const caf::error& e) {
            is_taking_ = false;
            if (at(instance_stage::taking)) {
              fail("the overlay could not be made anew: " + text_of(e));
            } else {
              leave();
            }
          });
}

void instance_state::vm_failed(const std::string& why) {
  switch (stage_) {
  case instance_stage::attaching:
  case instance_stage::starting:
    return; // the order to start hears of it
  case instance_stage::taking:
  case instance_stage::sealing:
  case instance_stage::leaving:
    return; // the disk is taken from it: its end is its own affair
  default:
    fail_or_replace(why, "the microVM failed: " + why);
  }
}

void instance_state::fail_or_replace(const std::string& why, const std::string& failure) {
  if (at(instance_stage::preparing) && is_silent_) {
    replace_vm(why);
  } else {
    fail(failure);
  }
}

void instance_state::replace_vm(const std::string& why) {
  stage_ = instance_stage::taking;
  ++deadline_generation_;
  is_taking_ = true;
  auto go_on = [this, why] {
    is_taking_ = false;
    if (at(instance_stage::taking) && vm_) {
      take_another(why);
    } else {
      leave();
    }
  };
  self_
      ->request(vm_, caf::infinite, make_frame<proto::StopVm>([](auto r) { r.setGraceful(false); }))
      .then([go_on](const frame<proto::VmStopped>&) { go_on(); },
            [go_on](const caf::error&) { go_on(); });
}

void instance_state::attach() {
  stage_ = instance_stage::attaching;
  self_
      ->request(parts_->store, caf::infinite, make_frame<proto::AttachOverlay>([&](auto r) {
                  result_image_.to(r.initOverlay());
                  image_.to(r.initParent());
                  r.setSlot(disk_slot_);
                  // The guest's own limit is exact for what programs write; this one also counts
                  // the file system's tables and what is written over.
                  auto view = record_.view();
                  auto layer = request_of(*view).getMaxLayerBytes();
                  r.setOwnBytesMax(layer + layer / 16 + (16u << 20));
                }))
      .then(
          [this](const frame<proto::OverlayAttached>&) {
            if (at(instance_stage::attaching)) {
              phases_ = edited(phases_, [&](auto p) { p.setOverlayUs(lap_us()); });
              start();
            }
          },
          [this](const caf::error& e) {
            if (at(instance_stage::attaching)) {
              fail("the overlay could not be made: " + text_of(e));
            }
          });
}

void instance_state::start() {
  stage_ = instance_stage::starting;
  auto view = record_.view();
  auto request = request_of(*view);
  self_
      ->request(vm_, caf::infinite, make_frame<proto::StartVm>([&](auto r) {
                  result_image_.to(r.initOverlay());
                  id_.to(r.initOperation());
                  r.setSlot(disk_slot_);
                  r.setCpus(request.getCpus());
                  r.setMemoryMib(request.getMemoryMib());
                }))
      .then(
          [this](const frame<proto::VmReady>& ready) {
            if (at(instance_stage::starting)) {
              order(ready);
            }
          },
          [this](const caf::error& e) {
            if (!at(instance_stage::starting)) {
              return;
            }
            if (code_of(e) == ec::gone && takes_ < takes_max) {
              take_another(text_of(e));
            } else {
              fail("the microVM did not start: " + text_of(e));
            }
          });
}

void instance_state::seal() {
  stage_ = instance_stage::sealing;
  self_
      ->request(parts_->store, caf::infinite, make_frame<proto::SealOverlay>([&](auto r) {
                  result_image_.to(r.initOverlay());
                  image_.to(r.initParent());
                  auto record = record_.view();
                  auto row = parent_.view();
                  r.setKeepUnchanged(changes_config(*record, row->getImage()));
                }))
      .then(
          [this](const frame<proto::OverlaySealed>& sealed) {
            if (at(instance_stage::sealing)) {
              phases_ = edited(phases_, [&](auto p) { p.setSealUs(lap_us()); });
              sealed_ = sealed;
              succeed();
            }
          },
          [this](const caf::error& e) {
            if (at(instance_stage::sealing)) {
              if (code_of(e) == ec::too_large) {
                fail_task(beyond_limit(text_of(e)));
              } else {
                fail("the file system could not be sealed: " + text_of(e));
              }
            }
          });
}

void instance_state::succeed() {
  tell_outcome(nullptr);
  leave();
}

std::uint64_t instance_state::lap_us() {
  auto now = self_->clock().now();
  return elapsed_us(std::exchange(lap_, now), now);
}

void instance_state::arm_deadline(std::chrono::milliseconds delay, std::string text) {
  deadline_text_ = std::move(text);
  deadline_ = self_->clock().now() + delay;
  ++deadline_generation_;
  await_deadline();
}

void instance_state::await_deadline() {
  auto left = std::min<time_point::duration>(deadline_ - self_->clock().now(), deadline_step);
  self_->delayed_send(
      self_, left, make_frame<proto::Tick>([&](auto r) { r.setGeneration(deadline_generation_); }));
}

work_actor::behavior_type instance_state::make_behavior(std::shared_ptr<const instance_parts> parts,
                                                        const operation_actor& operation,
                                                        frame<proto::OperationRecord> record,
                                                        const uuid& result_image) {
  parts_ = std::move(parts);
  operation_ = operation;
  record_ = std::move(record);
  result_image_ = result_image;
  phases_ = make_frame<proto::Phases>();
  auto view = record_.view();
  id_ = uuid::from(view->getId());
  auto request = request_of(*view);
  image_ = uuid::from(request.getImage());
  self_->set_down_handler([this](const caf::down_msg& down) {
    if (!vm_ || down.source != vm_) {
      return;
    }
    if (at(instance_stage::leaving)) {
      vm_gone();
    } else if (at(instance_stage::sealing)) {
      vm_ = nullptr;
    } else {
      vm_ = nullptr;
      fail("internal error: the supervisor of the microVM died");
    }
  });
  queue();
  return {
      [this](const frame<proto::AbortWork>&) { abort(); },
      [this](const frame<proto::FromGuest>& m) { return guest_said(m); },
      [this](const frame<proto::VmFailed>& m) {
        if (self_->current_sender() == vm_) {
          vm_failed(m.view()->getText().cStr());
        }
      },
      [](const frame<proto::ChildExited>&) {
        // an import's; never sent here
      },
      [this](const frame<proto::Tick>& t) {
        if (t.view()->getGeneration() != deadline_generation_) {
          return;
        }
        if (self_->clock().now() < deadline_) {
          await_deadline();
        } else if (at(instance_stage::leaving)) {
          tell_failure();
        } else if (at(instance_stage::preparing) && is_silent_) {
          replace_vm("its agent did not answer within " +
                     std::to_string(parts_->silence_max.count()) + " s");
        } else {
          fail(deadline_text_);
        }
      },
      [this](const frame<proto::ProcessOrder>& m) { return process_order(m); },
  };
}

work_actor::behavior_type instance(work_actor::stateful_pointer<instance_state> self,
                                   std::shared_ptr<const instance_parts> parts,
                                   operation_actor operation, frame<proto::OperationRecord> record,
                                   uuid result_image) {
  return self->state.make_behavior(std::move(parts), operation, std::move(record), result_image);
}

} // namespace coppice
