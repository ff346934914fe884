#include "actors/instance.hpp"

#include "actors/requests.hpp"
#include "actors/run_frames.hpp"
#include "protocol/limits.hpp"

#include <algorithm>
#include <utility>

// What a run says to its guest, and what it hears from it.

namespace coppice {

void instance_state::order(const frame<proto::VmReady>& ready) {
  stage_ = instance_stage::preparing;
  ready_ = ready;
  phases_ = edited(phases_, [&](auto p) {
    p.setBootUs(lap_us());
    p.setVmStart(ready.view()->getStart());
  });
  run_ = ready.view()->getNextRun();
  is_silent_ = ready.view()->getStart() != proto::VmStart::COLD && takes_ < takes_max;
  if (is_silent_) {
    arm_deadline(parts_->silence_max, {});
  } else {
    arm_prepare_deadline();
  }
  auto view = record_.view();
  auto request = request_of(*view);
  auto row = parent_.view();
  stdin_.clear(); // of a VM that has been replaced
  processes_.begin(kept_bytes_max(request.getProcess()), request.getStdin().size(),
                   request.getStdinClose());
  send_to_guest(start_order(run_, request, row->getImage()), [this]() { send_files(0, 0); });
}

void instance_state::arm_prepare_deadline() {
  auto view = record_.view();
  std::uint64_t files_bytes = 0;
  for (auto f : request_of(*view).getFiles()) {
    files_bytes += f.getSizeBytes();
  }
  arm_deadline(parts_->prepare_limit + std::chrono::seconds{files_bytes >> 20},
               "the guest did not start the command in time");
}

void instance_state::send_files(capnp::uint index, std::uint64_t offset) {
  auto view = record_.view();
  auto files = request_of(*view).getFiles();
  if (index >= files.size()) {
    send_stdin();
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
          [this, index, offset, take = takes_](const frame<proto::BlobChunk>& chunk) {
            if (!at(instance_stage::preparing) || take != takes_) {
              return; // also when it was for a VM that has been replaced
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
              m.setRun(run_);
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

void instance_state::send_stdin() {
  auto view = record_.view();
  auto request = request_of(*view);
  stdin_.add(main_process, record_, request.getStdin(), request.getStdinClose());
  pump_stdin();
}

void instance_state::send_to_guest(const frame<proto::ToGuest>& message,
                                   std::function<void()> then) {
  self_->request(vm_, caf::infinite, message)
      .then(
          [this, take = takes_, then = std::move(then)](const frame<proto::Done>&) {
            if (take == takes_ &&
                (at(instance_stage::preparing) || at(instance_stage::executing))) {
              then();
            }
          },
          [this, take = takes_](const caf::error& e) {
            if (take == takes_ && at(instance_stage::preparing)) {
              fail_or_replace(text_of(e), "the guest could not be reached: " + text_of(e));
            }
          });
}

caf::result<frame<proto::Done>> instance_state::guest_said(const frame<proto::FromGuest>& message) {
  auto view = message.view();
  if (view->getRun() != run_) {
    return make_frame<proto::Done>();
  }
  if (at(instance_stage::preparing) && std::exchange(is_silent_, false)) {
    arm_prepare_deadline();
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
      const std::string stage = why.getStage().cStr();
      is_task_fault_ = stage != "mount"; // its files have no place, its user is not known
      fail("the guest could not start the command (" + stage + "): " + why.getError().cStr());
    }
    break;
  case proto::FromGuest::EXEC_FAILED:
    exec_failed(view->getExecFailed());
    break;
  case proto::FromGuest::STDIN_TAKEN:
    stdin_taken(view->getStdinTaken());
    break;
  case proto::FromGuest::READY:
  case proto::FromGuest::MOUNTED:
    break;
  }
  return make_frame<proto::Done>();
}

void instance_state::started(proto::FromGuest::Started::Reader message) {
  if (message.getSpid() != main_process) {
    return process_started(message);
  }
  if (!at(instance_stage::preparing)) {
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
  auto& main = processes_.main();
  main.runs = true;
  report_stdin(main_process, main.input, request.getStdin());
}

void instance_state::output(const frame<proto::FromGuest>& message) {
  auto view = message.view();
  auto out = view->getOutput();
  auto* process = processes_.find(out.getSpid());
  if (!at(instance_stage::executing) || !process || !process->runs) {
    return;
  }
  auto size = out.getData().size();
  auto keep = (out.getIsStderr() ? process->err : process->out).take(size);
  if (keep == size) {
    self_->send(operation_, message); // shared, not copied
  } else if (keep > 0) {
    self_->send(operation_, output_head(run_, out, keep));
  }
}

void instance_state::exited(proto::FromGuest::Exited::Reader message) {
  if (message.getSpid() != main_process) {
    return process_exited(message);
  }
  if (!at(instance_stage::executing)) {
    return;
  }
  stage_ = instance_stage::unmounting;
  phases_ = edited(phases_, [&](auto p) { p.setExecUs(lap_us()); });
  arm_deadline(parts_->stop_grace + parts_->prepare_limit,
               "the guest did not unmount its disk in time");
  const auto& main = processes_.main();
  result_ = run_result(message.getResult(), main.out, main.err);
  has_result_ = true;
  processes_.fail_waiting(make_error(ec::conflict, "the operation's command has ended"));
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
  if (request_of(*view).getDisposable()) {
    succeed();
  } else {
    seal();
  }
}

} // namespace coppice
