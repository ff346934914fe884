#include "actors/instance.hpp"

#include "actors/log.hpp"
#include "actors/requests.hpp"
#include "actors/run_frames.hpp"

#include <caf/send.hpp>

#include <algorithm>
#include <utility>

namespace coppice {

namespace {

proto::RunRequest::Reader request_of(proto::OperationRecord::Reader record) {
  return record.getRequest().getInstance();
}

} // namespace

// -- the way
// ---------------------------------------------------------------------------------------

void instance_state::queue() {
  lap_ = self_->clock().now();
  auto view = record_.view();
  self_
      ->request(parts_->scheduler, caf::infinite, make_frame<proto::AcquireSlot>([&](auto r) {
                  id_.to(r.initOperation());
                  r.setProject(view->getProject());
                  r.setKind(proto::OperationKind::INSTANCE);
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
              attach();
            }
          },
          [this](const caf::error& e) {
            if (at(instance_stage::pinning)) {
              fail("image " + image_.text() + ": " + text_of(e));
            }
          });
}

void instance_state::attach() {
  stage_ = instance_stage::attaching;
  self_
      ->request(parts_->store, caf::infinite, make_frame<proto::AttachOverlay>([&](auto r) {
                  result_image_.to(r.initOverlay());
                  image_.to(r.initParent());
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
              boot();
            }
          },
          [this](const caf::error& e) {
            if (at(instance_stage::attaching)) {
              fail("the overlay could not be made: " + text_of(e));
            }
          });
}

void instance_state::boot() {
  stage_ = instance_stage::booting;
  vm_ = parts_->spawn_vm(self_);
  self_
      ->request(vm_, caf::infinite, make_frame<proto::StartVm>([&](auto r) {
                  result_image_.to(r.initOverlay());
                  id_.to(r.initOperation());
                }))
      .then(
          [this](const frame<proto::VmReady>& ready) {
            if (at(instance_stage::booting)) {
              order(ready);
            }
          },
          [this](const caf::error& e) {
            if (at(instance_stage::booting)) {
              fail("the microVM did not start: " + text_of(e));
            }
          });
}

void instance_state::order(const frame<proto::VmReady>& ready) {
  stage_ = instance_stage::preparing;
  ready_ = ready;
  phases_ = edited(phases_, [&](auto p) { p.setBootUs(lap_us()); });
  auto view = record_.view();
  auto request = request_of(*view);
  std::uint64_t files_bytes = 0;
  for (auto f : request.getFiles()) {
    files_bytes += f.getSizeBytes();
  }
  arm_deadline(parts_->prepare_limit + std::chrono::seconds{files_bytes >> 20},
               "the guest did not start the command in time");
  auto row = parent_.view();
  send_to_guest(start_order(request, row->getImage()), [this]() { send_files(0, 0); });
}

void instance_state::send_files(capnp::uint index, std::uint64_t offset) {
  auto view = record_.view();
  auto files = request_of(*view).getFiles();
  if (index >= files.size()) {
    send_stdin(0);
    return;
  }
  auto file = files[index];
  self_
      ->request(parts_->store, caf::infinite, make_frame<proto::ReadBlob>([&](auto r) {
                  r.setSha256(file.getSha256());
                  r.setOffset(offset);
                  r.setMaxBytes(limits::transfer_chunk_bytes);
                }))
      .then(
          [this, index, offset](const frame<proto::BlobChunk>& chunk) {
            if (!at(instance_stage::preparing)) {
              return;
            }
            auto current_view = record_.view();
            auto current = request_of(*current_view).getFiles()[index];
            auto data = chunk.view();
            auto next_offset = offset + data->getData().size();
            if (data->getData().size() == 0 && offset < current.getSizeBytes()) {
              fail(std::string{"file "} + current.getPath().cStr() +
                   ": the stored upload is too short");
              return;
            }
            auto message = make_frame<proto::ToGuest>([&](auto m) {
              m.setRun(only_run);
              auto c = m.initFileChunk();
              c.setIndex(index);
              c.setData(data->getData());
            });
            auto whole = next_offset >= current.getSizeBytes();
            send_to_guest(message, [this, index, next_offset, whole]() {
              send_files(whole ? index + 1 : index, whole ? 0 : next_offset);
            });
          },
          [this, path = std::string{file.getPath().cStr()}](const caf::error& e) {
            if (at(instance_stage::preparing)) {
              fail("file " + path + ": " + text_of(e));
            }
          });
}

void instance_state::send_stdin(std::size_t offset) {
  auto view = record_.view();
  auto request = request_of(*view);
  auto whole = request.getStdin();
  auto size = std::min(limits::transfer_chunk_bytes, whole.size() - offset);
  auto last = offset + size == whole.size();
  auto message = make_frame<proto::ToGuest>([&](auto m) {
    m.setRun(only_run);
    auto s = m.initStdin();
    s.setSpid(main_process);
    s.setData(whole.slice(offset, offset + size));
    s.setClose(last && request.getStdinClose());
  });
  send_to_guest(message, [this, last, next = offset + size]() {
    if (!last) {
      send_stdin(next);
    }
  });
}

void instance_state::close() {
  stage_ = instance_stage::closing;
  ++deadline_generation_; // the VM has its own limit for quitting
  auto view = record_.view();
  if (request_of(*view).getDisposable()) {
    succeed();
    return;
  }
  self_->request(vm_, caf::infinite, make_frame<proto::StopVm>([](auto r) { r.setGraceful(true); }))
      .then(
          [this](const frame<proto::VmStopped>& stopped) {
            if (!at(instance_stage::closing)) {
              return;
            }
            vm_ = nullptr;
            phases_ = edited(phases_, [&](auto p) { p.setCloseUs(lap_us()); });
            if (stopped.view()->getKilled()) {
              fail("QEMU did not close the disk in time; what the command wrote is not kept");
            } else {
              seal();
            }
          },
          [this](const caf::error& e) {
            if (at(instance_stage::closing)) {
              fail("the microVM could not be stopped: " + text_of(e));
            }
          });
}

void instance_state::seal() {
  stage_ = instance_stage::sealing;
  self_
      ->request(parts_->store, caf::infinite, make_frame<proto::SealOverlay>([&](auto r) {
                  result_image_.to(r.initOverlay());
                  image_.to(r.initParent());
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
              fail(code_of(e) == ec::too_large
                       ? beyond_limit(text_of(e))
                       : "the file system could not be sealed: " + text_of(e));
            }
          });
}

void instance_state::succeed() {
  tell_outcome(nullptr);
  leave();
}

// -- from the guest
// --------------------------------------------------------------------------------

caf::result<frame<proto::Done>> instance_state::guest_said(const frame<proto::FromGuest>& message) {
  auto view = message.view();
  if (view->getRun() != only_run) {
    return make_frame<proto::Done>();
  }
  switch (view->which()) {
  case proto::FromGuest::STARTED:
    started(view->getStarted());
    break;
  case proto::FromGuest::OUTPUT:
    output(message);
    break;
  case proto::FromGuest::EXITED:
    exited(view->getExited());
    break;
  case proto::FromGuest::FINISHED:
    finished(view->getFinished());
    break;
  case proto::FromGuest::FAILED:
    if (at(instance_stage::preparing)) {
      auto why = view->getFailed();
      fail(std::string{"the guest could not start the command ("} + why.getStage().cStr() +
           "): " + why.getError().cStr());
    }
    break;
  case proto::FromGuest::READY:
  case proto::FromGuest::MOUNTED:
    break;
  }
  return make_frame<proto::Done>();
}

void instance_state::started(proto::FromGuest::Started::Reader message) {
  if (!at(instance_stage::preparing) || message.getSpid() != main_process) {
    return;
  }
  stage_ = instance_stage::executing;
  phases_ = edited(phases_, [&](auto p) { p.setMountUs(lap_us()); });
  auto view = record_.view();
  auto request = request_of(*view);
  arm_deadline(std::chrono::seconds{request.getTimeoutSeconds()} + parts_->stop_grace,
               "the guest did not end the command at its deadline and was killed");
  auto ready = ready_.view();
  self_->send(operation_, executing_report(request, *ready, message));
}

void instance_state::output(const frame<proto::FromGuest>& message) {
  auto view = message.view();
  auto out = view->getOutput();
  if (!at(instance_stage::executing) || out.getSpid() != main_process) {
    return;
  }
  auto size = out.getData().size();
  auto keep = (out.getIsStderr() ? stderr_ : stdout_).take(size);
  if (keep == size) {
    self_->send(operation_, message); // shared, not copied
  } else if (keep > 0) {
    self_->send(operation_, output_head(out, keep));
  }
}

void instance_state::exited(proto::FromGuest::Exited::Reader message) {
  if (!at(instance_stage::executing) || message.getSpid() != main_process) {
    return;
  }
  stage_ = instance_stage::unmounting;
  phases_ = edited(phases_, [&](auto p) { p.setExecUs(lap_us()); });
  arm_deadline(parts_->stop_grace + parts_->prepare_limit,
               "the guest did not unmount its disk in time");
  result_ = run_result(message.getResult(), stdout_, stderr_);
  has_result_ = true;
}

void instance_state::finished(proto::FromGuest::Finished::Reader message) {
  if (!at(instance_stage::unmounting)) {
    return;
  }
  phases_ = edited(phases_, [&](auto p) { p.setUnmountUs(lap_us()); });
  auto view = record_.view();
  if (!message.getClean() && !request_of(*view).getDisposable()) {
    fail(std::string{"the guest could not unmount its disk, what the command wrote is not kept: "} +
         message.getError().cStr());
    return;
  }
  close();
}

// -- the end
// ---------------------------------------------------------------------------------------

void instance_state::fail(const std::string& text) {
  failure_ = text;
  leave();
  // A kill that takes for ever must not keep the reason from the client.
  arm_deadline(parts_->stop_grace, {});
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
  self_->send(parts_->scheduler,
              make_frame<proto::ReleaseSlot>([&](auto r) { id_.to(r.initOperation()); }));
  self_->send(operation_, make_frame<proto::WorkGone>());
  self_->quit();
}

std::uint64_t instance_state::lap_us() {
  auto now = self_->clock().now();
  return elapsed_us(std::exchange(lap_, now), now);
}

void instance_state::send_to_guest(const frame<proto::ToGuest>& message,
                                   std::function<void()> then) {
  self_->request(vm_, caf::infinite, message)
      .then(
          [this, then = std::move(then)](const frame<proto::Done>&) {
            if (at(instance_stage::preparing) || at(instance_stage::executing)) {
              then();
            }
          },
          [this](const caf::error& e) {
            if (at(instance_stage::preparing)) {
              fail("the guest could not be reached: " + text_of(e));
            }
          });
}

void instance_state::arm_deadline(std::chrono::milliseconds delay, std::string text) {
  deadline_text_ = std::move(text);
  self_->delayed_send(self_, delay, make_frame<proto::Tick>([&](auto r) {
                        r.setGeneration(++deadline_generation_);
                      }));
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
  auto keep =
      std::min(request.getProcess().getTruncateOutputAtBytes(), limits::output_kept_bytes_max);
  stdout_ = output_meter{keep};
  stderr_ = output_meter{keep};
  self_->set_down_handler([this](const caf::down_msg& down) {
    if (!vm_ || down.source != vm_) {
      return;
    }
    if (at(instance_stage::leaving)) {
      vm_gone();
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
        if (!at(instance_stage::leaving) && !at(instance_stage::closing)) {
          fail(std::string{"the microVM failed: "} + m.view()->getText().cStr());
        }
      },
      [](const frame<proto::ChildExited>&) {
        // an import's; never sent here
      },
      [this](const frame<proto::Tick>& t) {
        if (t.view()->getGeneration() != deadline_generation_) {
          return;
        }
        if (at(instance_stage::leaving)) {
          tell_failure();
        } else {
          fail(deadline_text_);
        }
      },
  };
}

work_actor::behavior_type instance(work_actor::stateful_pointer<instance_state> self,
                                   std::shared_ptr<const instance_parts> parts,
                                   operation_actor operation, frame<proto::OperationRecord> record,
                                   uuid result_image) {
  return self->state.make_behavior(std::move(parts), operation, std::move(record), result_image);
}

} // namespace coppice
