#include "actors/scheduler.hpp"

#include "actors/log.hpp"
#include "actors/node_capacity.hpp"
#include "actors/requests.hpp"

#include <algorithm>
#include <utility>

namespace coppice {

fair_queue::request scheduler_state::request_of(proto::AcquireSlot::Reader wanted) const {
  fair_queue::request out;
  out.id = uuid::from(wanted.getOperation());
  out.project = wanted.getProject().cStr();
  out.priority = std::clamp(wanted.getPriority(), -priority_max, priority_max);
  if (wanted.getKind() == proto::OperationKind::INSTANCE) {
    auto memory = wanted.getMemoryMib() > 0 ? wanted.getMemoryMib() : default_class_.memory_mib;
    out.needs.cpus = wanted.getCpus() > 0 ? wanted.getCpus() : default_class_.cpus;
    out.needs.memory_mib = memory + vm_overhead_mib;
  }
  return out;
}

caf::error scheduler_state::never_fits(const fair_queue::demand& needs) const {
  return make_error(
      ec::invalid,
      "a machine of " + std::to_string(needs.cpus) + " processors and " +
          std::to_string(needs.memory_mib - vm_overhead_mib) +
          " MiB never fits this node, which gives its machines " + std::to_string(node_.cpus) +
          " processors and " + std::to_string(node_.memory_mib) + " MiB together (" +
          std::to_string(vm_overhead_mib) +
          " MiB of it are for each machine itself); ask for less, or let the operator raise "
          "vm.cpus_max or vm.memory_bytes_max");
}

caf::result<frame<proto::SlotGranted>>
scheduler_state::acquire(const frame<proto::AcquireSlot>& request) {
  auto view = request.view();
  auto& queue = view->getKind() == proto::OperationKind::INSTANCE ? instances_ : imports_;
  auto wanted = request_of(*view);
  if (!queue.can_ever_run(wanted.needs)) {
    return never_fits(wanted.needs);
  }
  if (!queue.add(wanted)) {
    return make_error(ec::conflict, "this operation has a slot, or waits for one");
  }
  auto promise = self_->make_response_promise<frame<proto::SlotGranted>>();
  waiting_.emplace(wanted.id, waiter{self_->clock().now(), promise});
  grant(queue);
  return promise;
}

frame<proto::QueuePlace> scheduler_state::place(const uuid& operation) const {
  auto position = instances_.position(operation);
  if (!position) {
    position = imports_.position(operation);
  }
  return make_frame<proto::QueuePlace>([&](auto root) {
    if (position) {
      root.setWaiting(true);
      root.setPosition(static_cast<std::uint32_t>(*position));
      root.setWaitedUs(elapsed_us(waiting_.at(operation).since, self_->clock().now()));
    }
  });
}

void scheduler_state::refuse(const uuid& operation, caf::error why) {
  auto found = waiting_.find(operation);
  if (found != waiting_.end()) {
    found->second.promise.deliver(std::move(why));
    waiting_.erase(found);
  }
}

void scheduler_state::release(const uuid& operation) {
  for (auto* queue : {&instances_, &imports_}) {
    if (queue->remove(operation)) {
      refuse(operation, make_error(ec::cancelled, "released while it waited for a slot"));
      grant(*queue);
    }
  }
}

void scheduler_state::open(const frame<proto::SlotsReady>& request) {
  auto view = request.view();
  node_ = {view->getRunningMax(), view->getCpus(), view->getMemoryMib()};
  log::info("slots ready", "vms", node_.running, "vm_cpus", node_.cpus, "vm_memory_mib",
            node_.memory_mib);
  metrics_->set_slots_max({node_.running, node_.cpus, node_.memory_mib});
  for (const auto& [id, needs] : instances_.set_capacity(node_)) {
    refuse(id, never_fits(needs));
  }
  grant(instances_);
}

void scheduler_state::grant(fair_queue& queue) {
  while (auto id = queue.grant()) {
    auto next = waiting_.extract(*id);
    const auto& w = next.mapped();
    const auto waited_us = elapsed_us(w.since, self_->clock().now());
    metrics_->slot_granted(&queue == &instances_ ? node_metrics::slot_kind::instance
                                                 : node_metrics::slot_kind::import,
                           std::chrono::microseconds{waited_us});
    next.mapped().promise.deliver(
        make_frame<proto::SlotGranted>([&](auto root) { root.setWaitedUs(waited_us); }));
  }
  count();
}

void scheduler_state::count() {
  metrics_->set_queue(node_metrics::slot_kind::instance, instances_.waiting_count(),
                      instances_.running_count());
  metrics_->set_queue(node_metrics::slot_kind::import, imports_.waiting_count(),
                      imports_.running_count());
  const auto& used = instances_.used();
  metrics_->set_slots_used({used.running, used.cpus, used.memory_mib});
}

scheduler_actor::behavior_type scheduler_state::make_behavior(const scheduler_limits& limits) {
  default_class_ = limits.default_class;
  metrics_ = limits.metrics;
  imports_.set_capacity({limits.imports_max, limits.imports_max, 0});
  return {
      [this](const frame<proto::AcquireSlot>& r) { return acquire(r); },
      [this](const frame<proto::ReleaseSlot>& r) { release(uuid::from(r.view()->getOperation())); },
      [this](const frame<proto::GetQueuePlace>& r) {
        return place(uuid::from(r.view()->getOperation()));
      },
      [this](const frame<proto::SlotsReady>& r) { open(r); },
  };
}

scheduler_actor::behavior_type scheduler(scheduler_actor::stateful_pointer<scheduler_state> self,
                                         scheduler_limits limits) {
  return self->state.make_behavior(limits);
}

} // namespace coppice
