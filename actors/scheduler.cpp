#include "actors/scheduler.hpp"

#include "actors/log.hpp"
#include "actors/requests.hpp"

#include <algorithm>

namespace coppice {

caf::result<frame<proto::SlotGranted>>
scheduler_state::acquire(const frame<proto::AcquireSlot>& request) {
  auto view = request.view();
  auto& l = view->getKind() == proto::OperationKind::INSTANCE ? instances_ : imports_;
  auto promise = self_->make_response_promise<frame<proto::SlotGranted>>();
  l.waiting.push_back({uuid::from(view->getOperation()), self_->clock().now(), promise});
  grant(l);
  return promise;
}

void scheduler_state::release(const uuid& operation) {
  for (auto* l : {&instances_, &imports_}) {
    auto it = std::find_if(l->waiting.begin(), l->waiting.end(),
                           [&](const waiter& w) { return w.operation == operation; });
    if (it != l->waiting.end()) {
      it->promise.deliver(make_error(ec::cancelled, "released while it waited for a slot"));
      l->waiting.erase(it);
    }
    l->running.erase(operation);
    grant(*l);
  }
}

void scheduler_state::grant(lane& l) {
  while (!l.waiting.empty() && l.running.size() < l.running_max) {
    auto next = std::move(l.waiting.front());
    l.waiting.pop_front();
    l.running.insert(next.operation);
    next.promise.deliver(make_frame<proto::SlotGranted>(
        [&](auto root) { root.setWaitedUs(elapsed_us(next.since, self_->clock().now())); }));
  }
}

scheduler_actor::behavior_type scheduler_state::make_behavior(std::uint32_t imports_max) {
  imports_.running_max = imports_max;
  return {
      [this](const frame<proto::AcquireSlot>& r) { return acquire(r); },
      [this](const frame<proto::ReleaseSlot>& r) {
        auto view = r.view();
        release(uuid::from(view->getOperation()));
      },
      [this](const frame<proto::SlotsReady>& r) {
        auto view = r.view();
        instances_.running_max = view->getRunningMax();
        log::info("slots ready", "vms", instances_.running_max, "imports", imports_.running_max);
        grant(instances_);
      },
  };
}

scheduler_actor::behavior_type scheduler(scheduler_actor::stateful_pointer<scheduler_state> self,
                                         std::uint32_t imports_max) {
  return self->state.make_behavior(imports_max);
}

} // namespace coppice
