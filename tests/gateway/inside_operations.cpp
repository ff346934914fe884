#include "tests/gateway/inside_actors.hpp"

#include "protocol/operation_status.hpp"

namespace coppice::test {
namespace {

frame<proto::OperationRecord> start_operation(inside_double& in, proto::StartOperation::Reader r) {
  auto id = uuid::random();
  auto record = make_frame<proto::OperationRecord>([&](auto root) {
    id.to(root.initId());
    root.setProject(r.getProject());
    root.setCreatedAtUnixNs(1'704'110'400'000'000'000);
    if (r.getRequest().isInstance()) {
      root.getRequest().setInstance(r.getRequest().getInstance());
    } else {
      root.setKind(proto::OperationKind::IMAGE_IMPORT);
      root.getRequest().setImport(r.getRequest().getImport());
    }
  });
  in.operation_table[id] = record;
  if (r.getKey().getKey().size() != 0) {
    in.request_keys[bytes_in(r.getKey().getKey())] = {bytes_in(r.getKey().getDigest()), id};
  }
  return record;
}

caf::result<frame<proto::OperationRecord>> cancel_operation(inside_double& in,
                                                            proto::CancelOperation::Reader r) {
  auto found = in.operation_table.find(uuid::from(r.getId()));
  if (found == in.operation_table.end() || found->second.view()->getProject() != r.getProject()) {
    return nothing();
  }
  if (found->second.view()->getStatus() >= proto::OperationStatus::SUCCESS) {
    return make_error(ec::conflict, "the operation has ended");
  }
  capnp::MallocMessageBuilder message;
  message.setRoot(*found->second.view());
  message.getRoot<proto::OperationRecord>().setStatus(proto::OperationStatus::CANCELLED);
  return frame<proto::OperationRecord>{message};
}

frame<proto::OperationProgress> progress_of(inside_double& in, const uuid& operation,
                                            bool is_live) {
  return make_frame<proto::OperationProgress>([&](auto root) {
    root.setEventCount(in.event_table[operation].size());
    root.setLive(is_live);
  });
}

bool is_over(inside_double& in, const uuid& operation) {
  auto found = in.operation_table.find(operation);
  return found == in.operation_table.end() || is_terminal(found->second.view()->getStatus());
}

/// Answers the questions that there is an answer to; with a flag all of them.
void look_at_watches(inside_double& in, watch_keeper_state& state, std::optional<bool> live) {
  auto all = std::exchange(state.waiting, {});
  for (auto& each : all) {
    const bool is_ended = is_over(in, each.operation);
    if (live || is_ended || in.event_table[each.operation].size() > each.have_events) {
      each.asked.deliver(progress_of(in, each.operation, live.value_or(!is_ended)));
    } else {
      state.waiting.push_back(std::move(each));
    }
  }
}

} // namespace

caf::behavior watch_keeper_double(caf::stateful_actor<watch_keeper_state>* self,
                                  inside_double* in) {
  return {
      [=](const frame<proto::WatchOperation>& f) {
        auto view = f.view();
        auto promise = self->make_response_promise();
        std::scoped_lock lock{in->mutex};
        self->state.waiting.push_back({uuid::from(view->getId()), view->getHaveEvents(), promise});
        look_at_watches(*in, self->state, std::nullopt);
        ++in->watches;
        in->asked.notify_all();
        return promise;
      },
      [=](caf::ok_atom) {
        std::scoped_lock lock{in->mutex};
        look_at_watches(*in, self->state, std::nullopt);
      },
      [=](bool is_live) {
        std::scoped_lock lock{in->mutex};
        look_at_watches(*in, self->state, is_live);
      },
  };
}

operations_actor::behavior_type operations_double(operations_actor::pointer self,
                                                  inside_double* in) {
  return {
      [=](const frame<proto::StartOperation>& f) -> caf::result<frame<proto::OperationRecord>> {
        std::scoped_lock lock{in->mutex};
        in->started.push_back(f);
        if (in->on_start) {
          std::exchange(in->on_start, {})();
        }
        if (auto v = f.view(); in->request_keys.contains(bytes_in(v->getKey().getKey()))) {
          return make_error(ec::conflict, "the key is known");
        }
        if (in->start_error) {
          return make_error(*in->start_error, "too many operations wait");
        }
        if (in->is_silent) {
          in->unanswered.push_back(self->make_response_promise<frame<proto::OperationRecord>>());
          in->asked.notify_all();
          return in->unanswered.back();
        }
        return start_operation(*in, *f.view());
      },
      [in](const frame<proto::CancelOperation>& f) {
        std::scoped_lock lock{in->mutex};
        return cancel_operation(*in, *f.view());
      },
      [in](const frame<proto::FlushOperation>&) {
        std::scoped_lock lock{in->mutex};
        ++in->flushes;
        return make_frame<proto::Done>();
      },
      [=](const frame<proto::WatchOperation>& f) -> caf::result<frame<proto::OperationProgress>> {
        auto promise = self->make_response_promise<frame<proto::OperationProgress>>();
        promise.delegate(in->watch_keeper, f);
        return promise;
      },
      [in](const frame<proto::ProcessOrder>& f) -> caf::result<frame<proto::ProcessAnswer>> {
        std::scoped_lock lock{in->mutex};
        in->process_orders.push_back(f);
        if (in->is_process_lost) {
          return make_error(caf::sec::request_receiver_down);
        }
        if (in->process_error) {
          return make_error(*in->process_error, "what the inside says");
        }
        in->last_spid += f.view()->isExec() ? 1 : 0;
        return make_frame<proto::ProcessAnswer>([&](auto root) { root.setSpid(in->last_spid); });
      },
  };
}

scheduler_actor::behavior_type scheduler_double(scheduler_actor::pointer, inside_double* in) {
  return {
      [](const frame<proto::AcquireSlot>&) { return make_frame<proto::SlotGranted>(); },
      [](const frame<proto::ReleaseSlot>&) {},
      [in](const frame<proto::GetQueuePlace>& f) {
        std::scoped_lock lock{in->mutex};
        auto found = in->queue_places.find(uuid::from(f.view()->getOperation()));
        return make_frame<proto::QueuePlace>([&](auto root) {
          if (found != in->queue_places.end()) {
            root.setWaiting(true);
            root.setPosition(found->second);
            root.setWaitedUs(2'500'000);
          }
        });
      },
      [](const frame<proto::SlotsReady>&) {},
  };
}

} // namespace coppice::test
