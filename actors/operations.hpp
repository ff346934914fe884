#pragma once

#include "actors/interfaces.hpp"
#include "actors/operation.hpp"
#include "actors/type_ids.hpp"
#include "protocol/uuid.hpp"

#include <cstdint>
#include <memory>
#include <unordered_map>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

namespace coppice {

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
                                                std::uint32_t live_max);

  static inline const char* name = "operations";

private:
  caf::result<frame<proto::OperationRecord>> start(const frame<proto::StartOperation>& request);
  caf::result<frame<proto::OperationRecord>> cancel(const frame<proto::CancelOperation>& request);
  caf::result<frame<proto::Done>> flush(const frame<proto::FlushOperation>& request);
  void run(const frame<proto::OperationRecord>& record);
  void read_unfinished(std::int64_t behind_created_unix_ns, const uuid& behind);
  void recover(const frame<proto::UnfinishedPage>& page);
  void end_interrupted(const frame<proto::OperationRecord>& record);
  void shut_down();

  operations_actor::stateful_pointer<operations_state> self_;
  std::shared_ptr<const operation_parts> parts_;
  catalog_reader_actor reader_;
  std::uint32_t live_max_ = 0;
  std::uint32_t starting_ = 0; ///< records on their way to the catalog
  bool stopping_ = false;
  std::unordered_map<uuid, operation_actor> live_;
};

operations_actor::behavior_type
operations(operations_actor::stateful_pointer<operations_state> self,
           std::shared_ptr<const operation_parts> parts, catalog_reader_actor reader,
           std::uint32_t live_max);

} // namespace coppice
