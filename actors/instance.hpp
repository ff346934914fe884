#pragma once

#include "actors/interfaces.hpp"
#include "actors/process_table.hpp"
#include "actors/stdin_queue.hpp"
#include "actors/type_ids.hpp"
#include "actors/vm.hpp"
#include "protocol/uuid.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

namespace coppice {

/// What instance actors share.
struct instance_parts {
  store_actor store;
  images_actor images;
  scheduler_actor scheduler;
  vm_pool_actor pool;
  std::chrono::seconds stop_grace{20};    ///< after the command's own deadline
  std::chrono::seconds prepare_limit{60}; ///< mount and files, beside a second for each MiB
  std::chrono::seconds silence_max{10}; ///< of a guest that was not booted, before another is taken
};

/// One run: a command on an image in a fresh microVM.
///
///   queued ▶ pinning ▶ taking ▶ attaching ▶ starting ▶ preparing ▶ executing ▶ unmounting
///          ▶ sealing ▶ leaving
///
/// A VM that waited, or was restored, may turn out to be dead, or die, or be silent, before its
/// agent has answered the first order: then another one is taken. Nothing of the run has happened
/// by then that could be seen.
///
/// Every stage can fail or be aborted; both lead to `leaving`, where the VM is killed and
/// everything held is given back, in the opposite order. Guarantee: an image is reported only
/// after the disk was unmounted clean by the guest, taken away from its VM and sealed durably; a
/// failure is reported after the VM and its overlay are gone (at the latest after the stop grace);
/// the scheduler's slot is free only when the VM is gone, which comes after the result.
enum class instance_stage : std::uint8_t {
  queued,     ///< waits for a slot
  pinning,    ///< the image is looked up and held
  taking,     ///< a VM, and the slot of its disk, come from the pool
  attaching,  ///< the overlay is made
  starting,   ///< the VM goes on, is restored or boots, until its agent takes orders
  preparing,  ///< the guest mounts the disk and takes the files
  executing,  ///< the command runs
  unmounting, ///< it ended; the guest unmounts and flushes
  sealing,    ///< the overlay becomes an image
  leaving,    ///< the end is told; what is held is given back
};

class instance_state {
public:
  explicit instance_state(work_actor::stateful_pointer<instance_state> self) : self_{self} {}

  work_actor::behavior_type make_behavior(std::shared_ptr<const instance_parts> parts,
                                          const operation_actor& operation,
                                          frame<proto::OperationRecord> record,
                                          const uuid& result_image);

  static inline const char* name = "instance";

  /// VMs that a run may use up before one starts.
  static constexpr unsigned takes_max = 3;

  /// Orders for processes that the VM has not taken yet; with what else may be under way they are
  /// fewer than vm_state::sends_max.
  static constexpr unsigned orders_max = 32;

  /// A timer keeps this actor's memory until it is due, also when the run is long over, and a run
  /// may have an hour. So it is set again and again, for this long at most.
  static constexpr std::chrono::seconds deadline_step{30};

private:
  using time_point = caf::actor_clock::time_point;

  // -- the way (instance.cpp) --------------------------------------------------------------------
  void queue();
  void pin();
  void take();
  void take_another(const std::string& why);
  void vm_failed(const std::string& why);
  /// Another VM while its guest has said nothing yet, else the end with `failure`.
  void fail_or_replace(const std::string& why, const std::string& failure);
  void replace_vm(const std::string& why);
  void attach();
  void start();
  void seal();
  void succeed();

  // -- to and from the guest (instance_guest.cpp) ------------------------------------------------
  void order(const frame<proto::VmReady>& ready);
  void send_files(capnp::uint index, std::uint64_t offset);
  void send_stdin();
  void send_to_guest(const frame<proto::ToGuest>& message, std::function<void()> then);
  caf::result<frame<proto::Done>> guest_said(const frame<proto::FromGuest>& message);
  void started(proto::FromGuest::Started::Reader message);
  void output(const frame<proto::FromGuest>& message);
  void exited(proto::FromGuest::Exited::Reader message);
  void finished(proto::FromGuest::Finished::Reader message);

  // -- processes (instance_processes.cpp) --------------------------------------------------------
  caf::result<frame<proto::ProcessAnswer>> process_order(const frame<proto::ProcessOrder>& order);
  caf::result<frame<proto::ProcessAnswer>> exec(const frame<proto::ProcessOrder>& order);
  void exec_refused(std::uint32_t spid, const caf::error& why);
  caf::result<frame<proto::ProcessAnswer>> signal(std::uint32_t spid, int number);
  caf::result<frame<proto::ProcessAnswer>> give_input(const frame<proto::ProcessOrder>& order);
  static caf::error too_many_orders();
  static caf::error too_much_input();
  /// `then` hears why not, or of no error.
  void order_guest(const frame<proto::ToGuest>& message,
                   std::function<void(const caf::error&)> then);
  void pump_stdin();
  /// Tells the operation as much of it as the event log is to have.
  void report_stdin(std::uint32_t spid, process_input& input, capnp::Data::Reader data);
  void process_started(proto::FromGuest::Started::Reader message);
  void process_exited(proto::FromGuest::Exited::Reader message);
  void exec_failed(proto::FromGuest::ExecFailed::Reader message);
  void stdin_taken(proto::FromGuest::StdinTaken::Reader message);

  // -- the end (instance_end.cpp) ----------------------------------------------------------------
  void fail(const std::string& text);
  /// The same where the request is to blame: trying again changes nothing.
  void fail_task(const std::string& text);
  void abort();
  void tell_failure();
  void tell_outcome(const std::string* error);
  void leave();
  void vm_gone();
  void discard();
  void give_back();
  /// What the disk had refused is the better reason: what the VM says of it came after.
  void blame_disk(const frame<proto::OverlayDiscarded>& gone);
  std::string beyond_limit(const std::string& trouble) const;

  // -- for all of them ---------------------------------------------------------------------------
  static proto::RunRequest::Reader request_of(proto::OperationRecord::Reader record) {
    return record.getRequest().getInstance();
  }
  /// Whether an answer of `stage` is still wanted: no abort or failure came in between.
  bool at(instance_stage stage) const {
    return stage_ == stage;
  }
  /// Ends the phase that began at the last call and gives its length.
  std::uint64_t lap_us();
  void arm_deadline(std::chrono::milliseconds delay, std::string text);
  void await_deadline();
  void arm_prepare_deadline();

  work_actor::stateful_pointer<instance_state> self_;
  std::shared_ptr<const instance_parts> parts_;
  operation_actor operation_;
  frame<proto::OperationRecord> record_;
  uuid id_;
  uuid image_;
  uuid result_image_;
  instance_stage stage_ = instance_stage::queued;
  time_point lap_;
  frame<proto::ImageRow> parent_;
  frame<proto::VmReady> ready_;
  vm_actor vm_;
  std::uint64_t disk_slot_ = 0; ///< the VM's
  bool is_taking_ = false;      ///< the pool has not answered yet
  unsigned takes_ = 0;
  bool is_silent_ = false; ///< the guest has not answered yet and may be replaced
  std::uint64_t run_ = 0;  ///< number of our run in it
  frame<proto::RunResult> result_;
  bool has_result_ = false;
  process_table processes_;
  stdin_queue stdin_;
  unsigned orders_under_way_ = 0;
  frame<proto::Phases> phases_;
  std::optional<frame<proto::OverlaySealed>> sealed_; ///< set: the image is durable
  std::optional<std::string> failure_;                ///< not yet told
  bool is_task_fault_ = false;
  std::uint64_t deadline_generation_ = 0;
  time_point deadline_;
  std::string deadline_text_;
};

work_actor::behavior_type instance(work_actor::stateful_pointer<instance_state> self,
                                   std::shared_ptr<const instance_parts> parts,
                                   operation_actor operation, frame<proto::OperationRecord> record,
                                   uuid result_image);

} // namespace coppice
