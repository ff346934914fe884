#pragma once

#include "actors/interfaces.hpp"
#include "actors/type_ids.hpp"
#include "protocol/uuid.hpp"

#include <cstdint>
#include <list>
#include <unordered_map>
#include <unordered_set>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

namespace coppice {

/// Slots in order of arrival.
///
/// Problem: more running VMs than the node can carry only add latency, and under TCG more than
/// cores give no throughput at all. So work asks for a slot and waits, first come first served;
/// imports have slots of their own. An operation holds at most one slot or place in a queue, and
/// gives it back by its id, as often as it likes.
class scheduler_state {
public:
  explicit scheduler_state(scheduler_actor::stateful_pointer<scheduler_state> self) : self_{self} {}

  scheduler_actor::behavior_type make_behavior(std::uint32_t imports_max);

  static inline const char* name = "scheduler";

private:
  using clock = caf::actor_clock;

  struct waiter {
    uuid operation;
    clock::time_point since;
    caf::typed_response_promise<frame<proto::SlotGranted>> promise;
  };

  struct lane {
    std::uint32_t running_max = 0;
    std::list<waiter> waiting;
    std::unordered_set<uuid> running;
  };

  caf::result<frame<proto::SlotGranted>> acquire(const frame<proto::AcquireSlot>& request);
  void release(const uuid& operation);
  void grant(lane& l);

  scheduler_actor::stateful_pointer<scheduler_state> self_;
  lane instances_; ///< no slot before SlotsReady
  lane imports_;
};

scheduler_actor::behavior_type scheduler(scheduler_actor::stateful_pointer<scheduler_state> self,
                                         std::uint32_t imports_max);

} // namespace coppice
