#include "actors/instance.hpp"

#include "actors/log.hpp"
#include "actors/requests.hpp"
#include "actors/run_frames.hpp"

#include <utility>

// How a run ends: what is told of it, and what is given back, from whatever stage it gets there.

namespace coppice {

void instance_state::fail(const std::string& text) {
  failure_ = text;
  leave();
  // A kill that takes for ever must not keep the reason from the client.
  arm_deadline(parts_->stop_grace, {});
}

void instance_state::fail_task(const std::string& text) {
  is_task_fault_ = true;
  fail(text);
}

void instance_state::tell_failure() {
  if (auto text = std::exchange(failure_, std::nullopt)) {
    tell_outcome(&*text);
  }
}

void instance_state::abort() {
  if (stage_ != instance_stage::leaving) {
    leave(); // the operation has decided the end itself
  }
}

void instance_state::tell_outcome(const std::string* error) {
  self_->send(operation_, make_frame<proto::OperationOutcome>([&](auto r) {
                if (error) {
                  r.setError(*error);
                  r.setTaskFault(is_task_fault_);
                } else {
                  r.setSuccess();
                }
                if (has_result_) {
                  auto result = result_.view();
                  r.setResult(*result);
                  r.setHasResult(true);
                }
                auto phases = phases_.view();
                r.setPhases(*phases);
                if (error || !sealed_) {
                  return;
                }
                auto sealed = sealed_->view();
                if (sealed->getUnchanged()) {
                  image_.to(r.initExistingImage());
                  return;
                }
                auto record = record_.view();
                auto row = parent_.view();
                auto image = child_image(*record, row->getImage(), result_image_, *sealed);
                auto view = image.view();
                r.setImage(*view);
                r.setHasImage(true);
                r.setIndex(sealed->getIndex());
              }));
}

void instance_state::leave() {
  stage_ = instance_stage::leaving;
  ++deadline_generation_;
  processes_.fail_waiting(make_error(ec::conflict, "the operation has ended"));
  if (is_taking_) {
    return; // what comes must be given back
  }
  if (!vm_) {
    discard();
    return;
  }
  self_
      ->request(vm_, caf::infinite, make_frame<proto::StopVm>([](auto r) { r.setGraceful(false); }))
      .then([this](const frame<proto::VmStopped>&) { vm_gone(); },
            [this](const caf::error&) { vm_gone(); }); // the supervisor is dead, and QEMU with it
}

void instance_state::vm_gone() {
  if (std::exchange(vm_, nullptr)) { // told twice when its supervisor dies
    discard();
  }
}

void instance_state::discard() {
  if (sealed_) {
    give_back();
    return;
  }
  // After the attach in the store's mailbox, so it finds whatever that made.
  self_
      ->request(parts_->store, caf::infinite, make_frame<proto::DiscardOverlay>([&](auto r) {
                  result_image_.to(r.initOverlay());
                }))
      .then(
          [this](const frame<proto::OverlayDiscarded>& gone) {
            blame_disk(gone);
            give_back();
          },
          [this](const caf::error& e) {
            log::warn("overlay stays until the next start", "operation", id_, "error", text_of(e));
            give_back();
          });
}

void instance_state::blame_disk(const frame<proto::OverlayDiscarded>& gone) {
  auto view = gone.view();
  if (!failure_ || view->getTrouble().size() == 0) {
    return;
  }
  is_task_fault_ = view->getBeyondLimit();
  auto trouble = std::string{view->getTrouble().cStr()};
  failure_ = view->getBeyondLimit() ? beyond_limit(trouble) : "the run's disk failed: " + trouble;
}

std::string instance_state::beyond_limit(const std::string& trouble) const {
  auto record = record_.view();
  return "the run changed more of its disk than max_layer_bytes, " +
         std::to_string(request_of(*record).getMaxLayerBytes()) +
         ", and what the file system itself takes: " + trouble;
}

void instance_state::give_back() {
  tell_failure(); // who is told can use at once the space that the run had filled
  self_->send(parts_->images, make_frame<proto::UnpinImage>([&](auto r) {
                image_.to(r.initImage());
                id_.to(r.initOperation());
              }));
  if (disk_slot_ != 0) {
    self_->send(parts_->store,
                make_frame<proto::CloseDiskSlot>([&](auto r) { r.setSlot(disk_slot_); }));
  }
  self_->send(parts_->scheduler,
              make_frame<proto::ReleaseSlot>([&](auto r) { id_.to(r.initOperation()); }));
  self_->send(operation_, make_frame<proto::WorkGone>());
  self_->quit();
}

} // namespace coppice
