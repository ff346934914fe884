#pragma once

#include "actors/fair_queue.hpp"
#include "actors/interfaces.hpp"
#include "actors/machine_class.hpp"
#include "actors/node_metrics.hpp"
#include "actors/type_ids.hpp"
#include "protocol/uuid.hpp"

#include <cstdint>
#include <memory>
#include <unordered_map>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

namespace coppice {

struct scheduler_limits {
  std::uint32_t imports_max = 1;
  machine_class default_class; ///< of runs that name none
  std::shared_ptr<node_metrics> metrics = std::make_shared<node_metrics>();
};

/// Slots, granted in the order of actors/fair_queue.hpp.
///
/// Problem: more running VMs than the node can carry only add latency, and under TCG more than
/// cores give no throughput at all. So work asks for a slot and waits. An instance takes processors
/// and memory of the node; imports have slots of their own, all alike. An operation holds at most
/// one slot or place in a queue, and gives it back by its id, as often as it likes.
class scheduler_state {
public:
  explicit scheduler_state(scheduler_actor::stateful_pointer<scheduler_state> self) : self_{self} {}

  scheduler_actor::behavior_type make_behavior(const scheduler_limits& limits);

  static inline const char* name = "scheduler";

  static constexpr std::int32_t priority_max = 10; ///< and as much below zero

private:
  using clock = caf::actor_clock;

  struct waiter {
    clock::time_point since;
    caf::typed_response_promise<frame<proto::SlotGranted>> promise;
  };

  caf::result<frame<proto::SlotGranted>> acquire(const frame<proto::AcquireSlot>& request);
  frame<proto::QueuePlace> place(const uuid& operation) const;
  void release(const uuid& operation);
  void open(const frame<proto::SlotsReady>& request);
  void grant(fair_queue& queue);
  void count();
  void refuse(const uuid& operation, caf::error why);
  fair_queue::request request_of(proto::AcquireSlot::Reader wanted) const;
  caf::error never_fits(const fair_queue::demand& needs) const;

  scheduler_actor::stateful_pointer<scheduler_state> self_;
  machine_class default_class_;
  std::shared_ptr<node_metrics> metrics_;
  fair_queue::capacity node_;
  fair_queue instances_; ///< no slot before SlotsReady
  fair_queue imports_;
  std::unordered_map<uuid, waiter> waiting_; ///< of both queues
};

scheduler_actor::behavior_type scheduler(scheduler_actor::stateful_pointer<scheduler_state> self,
                                         scheduler_limits limits);

} // namespace coppice
