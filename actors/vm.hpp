#pragma once

#include "actors/interfaces.hpp"
#include "actors/template_shelf.hpp"
#include "actors/type_ids.hpp"
#include "protocol/uuid.hpp"
#include "vmm/machine.hpp"

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

namespace coppice {

/// What every VM of this node is made of.
struct vm_parts {
  vmm::event_loop* loop = nullptr; ///< outlives the actor system
  vmm::machine_options machine;    ///< of the default class
  /// How QEMU reaches the disk in a slot.
  std::function<vmm::disk_attachment(std::uint64_t slot)> disk_of;
  std::shared_ptr<template_shelf> templates; ///< null: every VM boots
};

/// Life of a VM: idle -> booting -> ready -> stopping -> gone, and between ready and ready again
/// pausing -> paused -> resuming; any of them -> gone when it dies.
enum class vm_stage : std::uint8_t {
  idle,
  booting, ///< or being restored
  ready,
  pausing,
  paused,
  resuming,
  stopping,
  gone
};

/// Supervisor of one QEMU process.
///
/// Guarantee: the process never outlives this actor, and this actor never outlives its owner, which
/// may hand it to another. A
/// guest that floods us is held back: its messages are taken one by one, each when the owner is
/// done with the one before the limit.
class vm_state {
public:
  explicit vm_state(vm_actor::stateful_pointer<vm_state> self) : self_{self} {}

  vm_actor::behavior_type make_behavior(std::shared_ptr<const vm_parts> parts,
                                        const work_actor& owner);

  static inline const char* name = "vm";

  /// Messages for the guest that wait for room in the channel: orders for processes, a piece of
  /// standard input, and what its start takes, which the owner sends one at a time.
  static constexpr std::size_t sends_max = 64;

private:
  struct waiting_send {
    frame<proto::ToGuest> message;
    caf::typed_response_promise<frame<proto::Done>> promise;
  };

  caf::result<frame<proto::VmReady>> start(proto::StartVm::Reader request);
  caf::result<frame<proto::VmReady>> boot(proto::StartVm::Reader request);
  caf::result<frame<proto::VmReady>> resume();
  caf::result<frame<proto::Done>> pause();
  void carried_out(proto::VmOrderDone::Reader order);
  caf::result<frame<proto::Done>> adopt(const work_actor& owner);
  frame<proto::VmReady> ready_report() const;
  caf::result<frame<proto::Done>> send(const frame<proto::ToGuest>& message);
  caf::result<frame<proto::VmStopped>> stop(const frame<proto::StopVm>& request);
  void guest_said(const frame<proto::FromGuest>& message);
  void writable();
  void failed(const frame<proto::VmFailed>& why);
  void gone(const frame<proto::VmStopped>& how);

  vm_actor::stateful_pointer<vm_state> self_;
  std::shared_ptr<const vm_parts> parts_;
  work_actor owner_;
  uuid operation_;
  vm_stage stage_ = vm_stage::idle;
  proto::VmStart way_ = proto::VmStart::NONE;
  std::shared_ptr<const vmm::vm_template> from_;
  frame<proto::FromGuest> said_ready_;
  std::uint64_t next_run_ = 1;
  std::shared_ptr<vmm::machine> machine_;
  caf::actor_clock::time_point started_at_;
  std::optional<caf::typed_response_promise<frame<proto::VmReady>>> ready_;
  std::optional<caf::typed_response_promise<frame<proto::Done>>> paused_;
  std::vector<caf::typed_response_promise<frame<proto::VmStopped>>> stopped_;
  std::deque<waiting_send> sends_;
};

vm_actor::behavior_type vm(vm_actor::stateful_pointer<vm_state> self,
                           std::shared_ptr<const vm_parts> parts, work_actor owner);

} // namespace coppice
