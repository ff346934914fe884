#include "actors/operation.hpp"

#include "actors/log.hpp"
#include "actors/requests.hpp"
#include "actors/run_frames.hpp"
#include "protocol/ordered_uuid.hpp"

#include <algorithm>
#include <utility>

namespace coppice {

// -- from the work
// ---------------------------------------------------------------------------------

bool operation_state::advance(operation_event event) {
  auto following = stage_ == stage::live ? next(status_, event) : std::nullopt;
  if (!following) {
    return false;
  }
  status_ = *following;
  record_ = edited(record_, [&](auto r) { r.setStatus(status_); });
  note_change();
  return true;
}

void operation_state::started(const frame<proto::OperationStarted>& message) {
  auto view = message.view();
  if (advance(operation_event::slot_granted)) {
    started_at_ = self_->clock().now();
    record_ = edited(record_, [&](auto r) { r.initPhases().setQueueUs(view->getSlotWaitUs()); });
    pump();
  }
}

void operation_state::executing(const frame<proto::OperationExecuting>& message) {
  if (!advance(operation_event::process_started)) {
    return;
  }
  auto view = message.view();
  auto now = unix_now_ns();
  log_.add(0, now, [&](auto e) { e.setInit(view->getInit()); });
  log_.add(main_process, now, [&](auto e) { e.setSpawn(view->getSpawn()); });
  pump();
}

void operation_state::output(const frame<proto::FromGuest>& message) {
  auto view = message.view();
  if (stage_ != stage::live || !view->isOutput()) {
    return;
  }
  auto out = view->getOutput();
  std::span<const unsigned char> data{out.getData().begin(), out.getData().size()};
  const bool was_full = log_.is_full();
  if (!log_.add_output(out.getSpid(), out.getIsStderr(), data, unix_now_ns())) {
    if (!was_full) {
      note_full_log();
    }
    return; // counted by the sender as produced, not kept here
  }
  tally_.add(out.getSpid(), out.getIsStderr(), data);
  write_soon();
}

void operation_state::note_output() {
  record_ = edited(record_, [&](proto::OperationRecord::Builder r) {
    tally_.note(main_process, r.getResult());
  });
}

void operation_state::outcome(const frame<proto::OperationOutcome>& message) {
  auto view = message.view();
  if (stage_ != stage::live) {
    if (view->getHasImage()) {
      discard_result(); // cancelled in the last moment: what was sealed is nobody's
    }
    return;
  }
  if (view->isError()) {
    finish(operation_event::failed, view->getError().cStr(), &message);
  } else {
    finish(operation_event::succeeded, {}, &message);
  }
}

void operation_state::work_gone(bool in_order) {
  work_ = nullptr;
  if (!in_order) {
    // It died with whatever it held: give that back for it.
    log::error("work died", "operation", id_);
    self_->send(parts_->scheduler,
                make_frame<proto::ReleaseSlot>([&](auto r) { id_.to(r.initOperation()); }));
    auto view = record_.view();
    if (view->getRequest().isInstance()) {
      self_->send(parts_->images, make_frame<proto::UnpinImage>([&](auto r) {
                    r.setImage(view->getRequest().getInstance().getImage());
                    id_.to(r.initOperation());
                  }));
    }
    if (stage_ == stage::live) {
      discard_result();
      finish(operation_event::failed, "internal error: the work of this operation died");
    }
  }
  quit_if_over();
}

void operation_state::discard_result() {
  auto id = result_image_;
  self_
      ->request(parts_->store, caf::infinite, make_frame<proto::DiscardOverlay>([&](auto r) {
                  id.to(r.initOverlay());
                  r.setCloseSlot(true); // its work may have died with it
                }))
      .then([](const frame<proto::OverlayDiscarded>&) {},
            [id](const caf::error& e) {
              log::warn("leftover stays until the next start", "image", id, "error", text_of(e));
            });
}

// -- the end
// ---------------------------------------------------------------------------------------

void operation_state::finish(operation_event event, const std::string& error,
                             const frame<proto::OperationOutcome>* outcome) {
  if (!advance(event)) {
    log::error("refused transition", "operation", id_, "status", status_name(status_), "event",
               static_cast<int>(event));
    return;
  }
  stage_ = stage::committing;
  end_.emplace();
  auto now = unix_now_ns();
  record_ = edited(record_, [&](proto::OperationRecord::Builder r) {
    r.setEndedAtUnixNs(now);
    ended_at_ = self_->clock().now();
    if (started_at_ != caf::actor_clock::time_point{}) {
      r.setDurationUs(elapsed_us(started_at_, ended_at_));
    }
    r.setError(error);
    auto total_us = elapsed_us(accepted_at_, ended_at_);
    r.getPhases().setTotalUs(total_us);
    if (!outcome) {
      return;
    }
    auto view = outcome->view();
    r.setPhases(view->getPhases());
    r.getPhases().setTotalUs(total_us);
    r.setResult(view->getResult());
    r.setHasResult(view->getHasResult());
    r.setTaskFault(view->getTaskFault());
    if (view->getHasImage()) {
      r.setResultImage(view->getImage().getId());
      r.setResultImageSizeBytes(view->getImage().getSizeBytes());
      end_->image = copy_frame<proto::ImageRecord>(view->getImage());
      end_->index = copy_frame<proto::ImageIndex>(view->getIndex());
    } else {
      r.setResultImage(view->getExistingImage());
    }
    auto request = r.asReader().getRequest();
    if (event == operation_event::succeeded && request.isImport()) {
      r.setResultTag(request.getImport().getTag());
      end_->tag = request.getImport().getTag().cStr();
    }
  });
  note_output();
  end_->record = record_;
  auto view = record_.view();
  add_last_events(*view, event == operation_event::succeeded ? "job_complete" : error);
  pump();
}

void operation_state::add_last_events(proto::OperationRecord::Reader end,
                                      const std::string& reason) {
  auto now = end.getEndedAtUnixNs();
  if (end.getHasResult()) {
    add_exit(main_process, now, end.getResult());
  }
  log_.add(0, now, [&](auto e) {
    auto s = e.initShutdown();
    s.setStoppedAtUnixNs(now);
    s.setReason(reason.empty() ? "cancelled" : reason);
  });
}

// -- writing
// ---------------------------------------------------------------------------------------

void operation_state::note_change() {
  ++record_version_;
}

void operation_state::pump() {
  answer_flushes();
  if (catalog_busy_ || retry_armed_) {
    return;
  }
  if (stage_ == stage::committing) {
    write_end();
  } else if (stage_ == stage::live && !is_record_written()) {
    write_record();
  } else if (stage_ == stage::live && log_.has_waiting()) {
    write_events();
  }
}

void operation_state::answer_flushes() {
  const bool is_over = stage_ == stage::final || stage_ == stage::parked;
  // Who asked later wants as much at least.
  auto first_left = std::find_if(flushes_.begin(), flushes_.end(), [&](const auto& each) {
    return !is_over &&
           (each.event_count > log_.durable_count() || each.record_version > written_version_);
  });
  std::for_each(flushes_.begin(), first_left,
                [](auto& each) { each.promise.deliver(make_frame<proto::Done>()); });
  flushes_.erase(flushes_.begin(), first_left);
}

void operation_state::fail_flushes(const caf::error& why) {
  for (auto& each : std::exchange(flushes_, {})) {
    each.promise.deliver(why);
  }
}

void operation_state::write_record() {
  catalog_busy_ = true;
  auto view = record_.view();
  self_
      ->request(parts_->catalog, caf::infinite,
                make_frame<proto::PutOperation>([&](auto r) { r.setRecord(*view); }))
      .then(
          [this, version = record_version_](const frame<proto::Done>&) {
            catalog_busy_ = false;
            written_version_ = version;
            pump();
          },
          [this](const caf::error& e) {
            // The work goes on. Its events wait for the record: by that a start sees what has run.
            log::warn("state not recorded", "operation", id_, "error", text_of(e));
            write_failed(e);
          });
}

void operation_state::write_events() {
  catalog_busy_ = true;
  const auto& batch = log_.take();
  auto request = make_frame<proto::AppendEvents>([&](auto r) {
    id_.to(r.initOperation());
    auto events = r.initEvents(static_cast<capnp::uint>(batch.size()));
    for (capnp::uint i = 0; i < events.size(); ++i) {
      auto view = batch[i].view();
      events.setWithCaveats(i, *view);
    }
  });
  self_->request(parts_->catalog, caf::infinite, std::move(request))
      .then(
          [this](const frame<proto::Done>&) {
            catalog_busy_ = false;
            log_.taken_is_durable();
            watchers_.tell(log_.durable_count());
            pump();
          },
          [this](const caf::error& e) {
            log::warn("events not recorded", "operation", id_, "error", text_of(e));
            log_.taken_failed();
            write_failed(e);
          });
}

void operation_state::write_failed(const caf::error& error) {
  catalog_busy_ = false;
  fail_flushes(error);
  if (stage_ == stage::live) {
    arm_retry();
  } else {
    pump();
  }
}

void operation_state::write_end() {
  catalog_busy_ = true;
  ++commit_tries_;
  const auto& batch = log_.take();
  auto completion_id = log_.next_id();
  auto end = edited(end_->record, [&](auto r) { r.setEventCount(completion_id + 1); });
  auto request = make_frame<proto::FinishOperation>([&](auto r) {
    auto record = end.view();
    r.setRecord(*record);
    auto events = r.initEvents(static_cast<capnp::uint>(batch.size() + 1));
    for (capnp::uint i = 0; i < batch.size(); ++i) {
      auto view = batch[i].view();
      events.setWithCaveats(i, *view);
    }
    // Not part of the batch: a failed commit may turn the end into another one.
    auto last = events[static_cast<capnp::uint>(batch.size())];
    last.setId(completion_id);
    last.setAtUnixNs(record->getEndedAtUnixNs());
    auto completion = last.initCompletion();
    completion.setStatus(record->getStatus());
    completion.setDurationUs(record->getDurationUs());
    completion.setResultImage(record->getResultImage());
    completion.setError(record->getError());
    completion.setImageSizeBytes(record->getResultImageSizeBytes());
    if (end_->image) {
      auto image = end_->image->view();
      r.setImage(*image);
      r.setHasImage(true);
      auto index = end_->index->view();
      r.setIndex(*index);
    }
    r.setTag(end_->tag);
  });
  self_->request(parts_->catalog, caf::infinite, std::move(request))
      .then(
          [this](const frame<proto::Done>&) {
            catalog_busy_ = false;
            log_.taken_is_durable();
            end_written();
          },
          [this](const caf::error& e) {
            catalog_busy_ = false;
            log_.taken_failed();
            end_failed(e);
          });
}

void operation_state::end_written() {
  stage_ = stage::final;
  record_ = end_->record;
  end_.reset();
  auto view = record_.view();
  log::info("operation ended", "operation", id_, "status", status_name(view->getStatus()), "image",
            uuid::from(view->getResultImage()), "duration_us", view->getDurationUs(), "error",
            view->getError().cStr());
  parts_->metrics->operation_ended(*view);
  parts_->metrics->end_committed(
      std::chrono::microseconds{elapsed_us(ended_at_, self_->clock().now())});
  for (auto& c : std::exchange(cancels_, {})) {
    c.deliver(record_);
  }
  pump();
  quit_if_over();
}

void operation_state::end_failed(const caf::error& error) {
  auto view = end_->record.view();
  log::error("end not recorded", "operation", id_, "try", commit_tries_, "error", text_of(error));
  if (view->getStatus() == proto::OperationStatus::SUCCESS) {
    // What the client was to see cannot be kept, so it never was.
    status_ = proto::OperationStatus::FAILED;
    if (end_->image) {
      discard_result();
    }
    end_->image.reset();
    end_->tag.clear();
    end_->record = edited(end_->record, [&](auto r) {
      r.setStatus(proto::OperationStatus::FAILED);
      r.setError("the result could not be recorded: " + text_of(error));
      r.initResultImage();
      r.setResultImageSizeBytes(0);
      r.setResultTag("");
    });
  }
  if (commit_tries_ < commit_tries_max) {
    arm_retry();
    return;
  }
  // The catalog still shows it as running; the next start ends it as FAILED.
  log::error("end given up until the next start", "operation", id_);
  stage_ = stage::final;
  for (auto& c : std::exchange(cancels_, {})) {
    c.deliver(error);
  }
  fail_flushes(error);
  quit_if_over();
}

// -- from clients and the directory
// ----------------------------------------------------------------

caf::result<frame<proto::OperationRecord>> operation_state::cancel() {
  if (stage_ == stage::parked) {
    return make_error(ec::stopping, "the server is shutting down");
  }
  if (stage_ != stage::live) {
    return make_error(ec::conflict,
                      "the operation has already ended as " + std::string{status_name(status_)});
  }
  cancels_.push_back(self_->make_response_promise<frame<proto::OperationRecord>>());
  auto promise = cancels_.back();
  abort_work("cancelled");
  finish(operation_event::cancelled, {});
  return promise;
}

caf::result<frame<proto::Done>> operation_state::flush() {
  if (stage_ == stage::final || stage_ == stage::parked) {
    return make_frame<proto::Done>();
  }
  if (stage_ == stage::live && status_ == proto::OperationStatus::EXECUTING) {
    note_output();
    note_change();
  }
  auto promise = self_->make_response_promise<frame<proto::Done>>();
  flushes_.push_back({log_.next_id(), record_version_, promise});
  pump();
  return promise;
}

void operation_state::shut_down() {
  if (stage_ == stage::live) {
    if (status_ == proto::OperationStatus::PENDING) {
      stage_ = stage::parked;
    } else {
      finish(operation_event::failed, "the server was stopped while this operation was running");
    }
    abort_work("the server is shutting down");
  }
  quit_if_over();
}

void operation_state::abort_work(const std::string& reason) {
  if (work_) {
    self_->send(work_, make_frame<proto::AbortWork>([&](auto r) { r.setReason(reason); }));
  }
}

void operation_state::quit_if_over() {
  if (stage_ != stage::final && stage_ != stage::parked) {
    return;
  }
  watchers_.end();
  if (!work_) {
    self_->quit(caf::exit_reason::normal);
  }
}

void operation_state::arm_retry() {
  if (!retry_armed_) {
    retry_armed_ = true;
    arm(timer::retry, commit_retry_delay);
  }
}

void operation_state::arm(timer t, std::chrono::milliseconds delay) {
  self_->delayed_send(self_, delay, make_frame<proto::Tick>([&](auto r) {
                        r.setTimer(static_cast<std::uint32_t>(t));
                      }));
}

operation_actor::behavior_type
operation_state::make_behavior(std::shared_ptr<const operation_parts> parts,
                               frame<proto::OperationRecord> record) {
  parts_ = std::move(parts);
  record_ = std::move(record);
  id_ = uuid::from(record_.view()->getId());
  result_image_ = ordered_uuid(unix_now_ns());
  accepted_at_ = self_->clock().now();
  work_ = parts_->spawn_work(self_, record_, result_image_);
  self_->set_down_handler([this](const caf::down_msg& down) {
    if (work_ && down.source == work_) {
      work_gone(false);
    }
  });
  self_->set_exit_handler([this](const caf::exit_msg&) { shut_down(); });
  return {
      [this](const frame<proto::CancelOperation>&) { return cancel(); },
      [this](const frame<proto::FlushOperation>&) { return flush(); },
      [this](const frame<proto::OperationStarted>& m) { started(m); },
      [this](const frame<proto::OperationExecuting>& m) { executing(m); },
      [this](const frame<proto::FromGuest>& m) { output(m); },
      [this](const frame<proto::OperationOutcome>& m) { outcome(m); },
      [this](const frame<proto::WorkGone>&) { work_gone(true); },
      [this](const frame<proto::WatchOperation>& r) { return watch(r); },
      [this](const frame<proto::Tick>& t) { tick(static_cast<timer>(t.view()->getTimer())); },
      [this](const frame<proto::ProcessOrder>& m) { return process_order(m); },
      [this](const frame<proto::ProcessReport>& m) { process_report(m); },
  };
}

operation_actor::behavior_type operation(operation_actor::stateful_pointer<operation_state> self,
                                         std::shared_ptr<const operation_parts> parts,
                                         frame<proto::OperationRecord> record) {
  return self->state.make_behavior(std::move(parts), std::move(record));
}

} // namespace coppice
