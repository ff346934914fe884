#include "actors/operations.hpp"

#include "actors/log.hpp"
#include "actors/requests.hpp"
#include "protocol/ordered_uuid.hpp"

#include <limits>
#include <utility>

namespace coppice {

std::optional<caf::error> operations_state::take_place(const std::string& project) {
  if (places_ >= limits_.live_max) {
    return make_error(ec::busy, "too many operations wait or run (limits.pending_max); "
                                "nothing was started, try again later");
  }
  auto& of_project = places_of_[project];
  if (of_project >= limits_.project_live_max) {
    return make_error(ec::busy, "too many operations of this project wait or run "
                                "(limits.pending_project_max); nothing was started, try again "
                                "later");
  }
  ++places_;
  ++of_project;
  return std::nullopt;
}

void operations_state::give_place(const std::string& project) {
  --places_;
  auto of_project = places_of_.find(project);
  if (--of_project->second == 0) {
    places_of_.erase(of_project);
  }
}

caf::result<frame<proto::OperationRecord>>
operations_state::start(const frame<proto::StartOperation>& request) {
  if (stopping_) {
    return make_error(ec::stopping, "the server is shutting down");
  }
  if (auto refused = parts_->reserve ? parts_->reserve->refusal() : std::nullopt) {
    return to_error(*refused);
  }
  std::string project = request.view()->getProject().cStr();
  if (auto refused = take_place(project)) {
    return std::move(*refused);
  }
  const auto now = unix_now_ns();
  auto id = ordered_uuid(now);
  auto record = make_frame<proto::OperationRecord>([&](auto r) {
    auto view = request.view();
    id.to(r.initId());
    r.setProject(view->getProject());
    r.setStatus(proto::OperationStatus::PENDING);
    r.setCreatedAtUnixNs(now);
    auto asked = view->getRequest();
    if (asked.isInstance()) {
      r.setKind(proto::OperationKind::INSTANCE);
      r.getRequest().setInstance(asked.getInstance());
    } else {
      r.setKind(proto::OperationKind::IMAGE_IMPORT);
      r.getRequest().setImport(asked.getImport());
    }
  });
  auto promise = self_->make_response_promise<frame<proto::OperationRecord>>();
  auto view = record.view();
  self_
      ->request(parts_->catalog, caf::infinite, make_frame<proto::PutOperation>([&](auto r) {
                  r.setRecord(*view);
                  auto asked = request.view();
                  r.setKey(asked->getKey());
                }))
      .then(
          [this, record, promise](const frame<proto::Done>&) mutable {
            run(record);
            promise.deliver(record);
          },
          [this, promise, project](caf::error& error) mutable {
            give_place(project);
            promise.deliver(std::move(error));
          });
  return promise;
}

void operations_state::run(const frame<proto::OperationRecord>& record) {
  if (stopping_) {
    return; // durable and PENDING: the next start runs it
  }
  auto view = record.view();
  auto id = uuid::from(view->getId());
  auto actor = self_->spawn<caf::monitored>(operation, parts_, record);
  by_actor_.emplace(actor.id(), id);
  live_.emplace(id, live_operation{actor, view->getProject().cStr()});
  log::info("operation accepted", "operation", id);
}

void operations_state::ended(caf::actor_id actor) {
  auto known = by_actor_.find(actor);
  if (known != by_actor_.end()) {
    auto live = live_.find(known->second);
    give_place(live->second.project);
    live_.erase(live);
    by_actor_.erase(known);
  }
  if (stopping_ && live_.empty()) {
    self_->quit(caf::exit_reason::normal);
  }
}

caf::result<frame<proto::OperationRecord>>
operations_state::cancel(const frame<proto::CancelOperation>& request) {
  auto view = request.view();
  auto id = uuid::from(view->getId());
  auto promise = self_->make_response_promise<frame<proto::OperationRecord>>();
  // The record first: it says whose the operation is.
  self_
      ->request(reader_, caf::infinite, make_frame<proto::GetOperation>([&](auto r) {
                  r.setProject(view->getProject());
                  r.setId(view->getId());
                }))
      .then(
          [this, promise, request, id](const frame<proto::OperationRecord>&) mutable {
            auto it = live_.find(id);
            if (it == live_.end()) {
              promise.deliver(make_error(ec::conflict, "the operation has already ended"));
            } else {
              promise.delegate(it->second.actor, request);
            }
          },
          [promise](caf::error& error) mutable { promise.deliver(std::move(error)); });
  return promise;
}

caf::result<frame<proto::Done>>
operations_state::flush(const frame<proto::FlushOperation>& request) {
  auto it = live_.find(uuid::from(request.view()->getId()));
  if (it == live_.end()) {
    return make_frame<proto::Done>();
  }
  return self_->delegate(it->second.actor, request);
}

caf::result<frame<proto::OperationProgress>>
operations_state::watch(const frame<proto::WatchOperation>& request) {
  auto it = live_.find(uuid::from(request.view()->getId()));
  if (it == live_.end()) {
    return make_frame<proto::OperationProgress>(); // not live
  }
  return self_->delegate(it->second.actor, request);
}

caf::result<frame<proto::ProcessAnswer>>
operations_state::process_order(const frame<proto::ProcessOrder>& order) {
  auto view = order.view();
  auto it = live_.find(uuid::from(view->getOperation()));
  if (it == live_.end()) {
    return make_error(ec::conflict, "the operation has already ended");
  }
  if (it->second.project != view->getProject().cStr()) {
    return make_error(ec::not_found, "no such operation");
  }
  return self_->delegate(it->second.actor, order);
}

void operations_state::read_unfinished(std::int64_t behind_created_unix_ns, const uuid& behind) {
  // await: nothing else is handled before the past is settled.
  self_
      ->request(reader_, caf::infinite, make_frame<proto::ListUnfinished>([&](auto r) {
                  r.setAfterCreatedAtUnixNs(behind_created_unix_ns);
                  behind.to(r.initAfterId());
                }))
      .await([this](const frame<proto::UnfinishedPage>& page) { recover(page); },
             [this](const caf::error& e) {
               log::error("unfinished operations could not be read", "error", text_of(e));
               self_->quit(e);
             });
}

void operations_state::recover(const frame<proto::UnfinishedPage>& page) {
  auto view = page.view();
  for (auto row : view->getRows()) {
    auto record = copy_frame<proto::OperationRecord>(row);
    // Events come when the work runs; where the record does not say so it was not to be written.
    if (row.getStatus() == proto::OperationStatus::PENDING && row.getEventCount() == 0) {
      ++places_; // accepted before: beyond a lowered limit, too
      ++places_of_[row.getProject().cStr()];
      run(record);
    } else {
      end_interrupted(record);
    }
  }
  if (auto rows = view->getRows(); view->getMore() && rows.size() > 0) {
    auto last = rows[rows.size() - 1];
    read_unfinished(last.getCreatedAtUnixNs(), uuid::from(last.getId()));
  }
}

void operations_state::end_interrupted(const frame<proto::OperationRecord>& record) {
  const std::string reason = "the server stopped while this operation was running";
  auto now = unix_now_ns();
  auto id = uuid::from(record.view()->getId());
  auto is_run = record.view()->getRequest().isInstance();
  auto next = record.view()->getEventCount();
  auto ended = edited(record, [&](auto r) {
    r.setStatus(proto::OperationStatus::FAILED);
    r.setError(reason);
    r.setEndedAtUnixNs(now);
    r.setEventCount(next + 1);
  });
  auto request = make_frame<proto::FinishOperation>([&](auto r) {
    auto end = ended.view();
    r.setRecord(*end);
    auto last = r.initEvents(1)[0];
    last.setId(next);
    last.setAtUnixNs(now);
    auto completion = last.initCompletion();
    completion.setStatus(proto::OperationStatus::FAILED);
    completion.setError(reason);
  });
  self_->request(parts_->catalog, caf::infinite, std::move(request))
      .await(
          [id, is_run, metrics = parts_->metrics](const frame<proto::Done>&) {
            log::warn("interrupted operation ended as FAILED", "operation", id);
            if (is_run) {
              metrics->run_ended(node_metrics::ending::failed, {});
            } else {
              metrics->import_ended(node_metrics::ending::failed);
            }
          },
          [id](const caf::error& e) {
            log::error("interrupted operation could not be ended", "operation", id, "error",
                       text_of(e));
          });
}

void operations_state::shut_down() {
  stopping_ = true;
  for (auto& [id, live] : live_) {
    self_->send_exit(live.actor, caf::exit_reason::user_shutdown);
  }
  if (live_.empty()) {
    self_->quit(caf::exit_reason::normal);
  }
}

operations_actor::behavior_type
operations_state::make_behavior(std::shared_ptr<const operation_parts> parts,
                                const catalog_reader_actor& reader,
                                const operations_limits& limits) {
  parts_ = std::move(parts);
  reader_ = reader;
  limits_ = limits;
  self_->set_down_handler([this](const caf::down_msg& down) { ended(down.source.id()); });
  self_->set_exit_handler([this](const caf::exit_msg&) { shut_down(); });
  read_unfinished(std::numeric_limits<std::int64_t>::min(), {});
  return {
      [this](const frame<proto::StartOperation>& r) { return start(r); },
      [this](const frame<proto::CancelOperation>& r) { return cancel(r); },
      [this](const frame<proto::FlushOperation>& r) { return flush(r); },
      [this](const frame<proto::WatchOperation>& r) { return watch(r); },
      [this](const frame<proto::ProcessOrder>& r) { return process_order(r); },
  };
}

operations_actor::behavior_type
operations(operations_actor::stateful_pointer<operations_state> self,
           std::shared_ptr<const operation_parts> parts, catalog_reader_actor reader,
           operations_limits limits) {
  return self->state.make_behavior(std::move(parts), reader, limits);
}

} // namespace coppice
