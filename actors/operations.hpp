#pragma once

#include "actors/interfaces.hpp"
#include "actors/operation.hpp"
#include "actors/type_ids.hpp"
#include "protocol/uuid.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

namespace coppice {

/// How many operations may wait or run.
struct operations_limits {
  std::uint32_t live_max = 1;
  std::uint32_t project_live_max = 1; ///< of one project
};

/// The directory of live operations.
///
/// Guarantee: new work is in the catalog before its asker hears of it, and before it runs. At
/// start, work that was waiting waits again in its old order, and work that was running ends as
/// FAILED with a reason; nothing is taken on before that.
class operations_state {
public:
  explicit operations_state(operations_actor::stateful_pointer<operations_state> self)
      : self_{self} {}

  operations_actor::behavior_type make_behavior(std::shared_ptr<const operation_parts> parts,
                                                const catalog_reader_actor& reader,
                                                const operations_limits& limits);

  static inline const char* name = "operations";

private:
  struct live_operation {
    operation_actor actor;
    std::string project;
  };

  caf::result<frame<proto::OperationRecord>> start(const frame<proto::StartOperation>& request);
  caf::result<frame<proto::OperationRecord>> cancel(const frame<proto::CancelOperation>& request);
  caf::result<frame<proto::Done>> flush(const frame<proto::FlushOperation>& request);
  caf::result<frame<proto::OperationProgress>> watch(const frame<proto::WatchOperation>& request);
  caf::result<frame<proto::ProcessAnswer>> process_order(const frame<proto::ProcessOrder>& order);
  /// Counts one more, or says why there may not be one more.
  std::optional<caf::error> take_place(const std::string& project);
  void give_place(const std::string& project);
  void run(const frame<proto::OperationRecord>& record);
  void ended(caf::actor_id actor);
  void read_unfinished(std::int64_t behind_created_unix_ns, const uuid& behind);
  void recover(const frame<proto::UnfinishedPage>& page);
  void end_interrupted(const frame<proto::OperationRecord>& record);
  void shut_down();

  operations_actor::stateful_pointer<operations_state> self_;
  std::shared_ptr<const operation_parts> parts_;
  catalog_reader_actor reader_;
  operations_limits limits_;
  bool stopping_ = false;
  std::unordered_map<uuid, live_operation> live_;
  std::unordered_map<caf::actor_id, uuid> by_actor_;
  // Both also count records on their way to the catalog.
  std::uint32_t places_ = 0;
  std::unordered_map<std::string, std::uint32_t> places_of_;
};

operations_actor::behavior_type
operations(operations_actor::stateful_pointer<operations_state> self,
           std::shared_ptr<const operation_parts> parts, catalog_reader_actor reader,
           operations_limits limits);

} // namespace coppice
