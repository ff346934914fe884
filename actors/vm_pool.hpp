#pragma once

#include "actors/interfaces.hpp"
#include "actors/node_metrics.hpp"
#include "actors/pool_plan.hpp"
#include "actors/type_ids.hpp"
#include "protocol/uuid.hpp"

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

namespace coppice {

/// What the pool works with.
struct vm_pool_parts {
  store_actor store;
  /// Spawns a VM that belongs to `owner`.
  std::function<vm_actor(vm_pool_actor::pointer pool, const work_actor& owner)> spawn_vm;
  /// Number of the template that VMs of that class are restored from, a new one with each that is
  /// made anew; 0: there is none. Asking has one made.
  std::function<std::uint64_t(const pool_plan::class_key&)> template_of;
  std::function<std::uint64_t()> free_memory_bytes;
  /// What all VMs may have together; 0 until it is known, and then none is made.
  std::function<std::uint64_t()> memory_max_bytes;
  pool_plan::limits limits;
  pool_plan::class_key usual; ///< the default class
  std::uint32_t cores = 1;
  std::shared_ptr<node_metrics> metrics = std::make_shared<node_metrics>();
};

/// VMs that wait: restored, warmed by a run of nothing on a disk of their own, and stopped, so that
/// a run only has to point the disk's slot to its overlay and let the VM go on.
///
/// Problem: a restore and the first steps of a guest take a quarter of a second of a core, most of
/// it before anything is known of the run. And a VM that was used must never be used again.
///
/// Guarantee: a VM is handed out once, after it has answered that it lives, and to one owner; what
/// has died, or does not get ready within `ready_max`, is replaced. Who asks gets a VM in any case:
/// where none waits, one that is still to be started. None is made while all cores run VMs that
/// were handed out, nor while memory is short; and when one that is handed out needs, in full, what
/// those that wait have of the node's memory, they end at once (pool_plan.hpp). Those that came
/// from a template of which there is a newer one are replaced one after the other.
class vm_pool_state {
public:
  explicit vm_pool_state(vm_pool_actor::stateful_pointer<vm_pool_state> self) : self_{self} {}

  vm_pool_actor::behavior_type make_behavior(std::shared_ptr<const vm_pool_parts> parts);

  static inline const char* name = "vm pool";

  static constexpr std::chrono::seconds ready_max{60};
  static constexpr std::chrono::seconds look_interval{2};
  /// For a VM that stands still to say that it lives.
  static constexpr std::chrono::seconds adopt_max{2};

private:
  enum class stage : std::uint8_t {
    opening,   ///< the slot of its disk
    attaching, ///< a disk of zeros
    starting,
    warming,
    pausing,
    waiting, ///< for a run
  };

  struct member {
    std::uint64_t number = 0;
    pool_plan::class_key of;
    std::uint64_t from = 0; ///< its template
    stage at = stage::opening;
    caf::actor_clock::time_point since;
    uuid overlay;
    std::uint64_t slot = 0;
    vm_actor vm;
  };
  using members = std::list<member>;
  using taken = caf::typed_response_promise<frame<proto::VmTaken>, vm_actor>;

  taken take(proto::TakeVm::Reader request);
  void hand_out(const pool_plan::class_key& of, const work_actor& asker, taken promise);
  void make_new(const pool_plan::class_key& of, const work_actor& asker, taken promise);
  void handed_out(std::uint64_t slot, bool is_warm, const pool_plan::class_key& of,
                  const vm_actor& vm, taken promise);

  void fill();
  void begin(const pool_plan::class_key& of, std::uint64_t from);
  void attach(member& one);
  void start(member& one);
  void guest_said(const frame<proto::FromGuest>& message);
  void pause(member& one);
  void drop(members::iterator which, const std::string& why);
  void look();
  void trim();
  void replace_outdated();
  std::uint64_t room_bytes() const;
  void count() const;
  void arm();

  members::iterator find(std::uint64_t number);
  members::iterator find(const caf::actor_addr& vm);
  /// Calls `then` for the member if it is still there.
  template <class Answer, class Then>
  auto still(std::uint64_t number, Then then);
  auto otherwise(std::uint64_t number);

  vm_pool_actor::stateful_pointer<vm_pool_state> self_;
  std::shared_ptr<const vm_pool_parts> parts_;
  std::unique_ptr<pool_plan> plan_;
  members members_;
  std::uint64_t last_number_ = 0;
  std::unordered_map<caf::actor_addr, std::uint64_t> running_; ///< handed out and not gone: memory
  std::uint64_t running_bytes_ = 0;                            ///< of all of them
};

vm_pool_actor::behavior_type vm_pool(vm_pool_actor::stateful_pointer<vm_pool_state> self,
                                     std::shared_ptr<const vm_pool_parts> parts);

} // namespace coppice
