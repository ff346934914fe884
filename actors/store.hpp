#pragma once

#include "actors/interfaces.hpp"
#include "actors/type_ids.hpp"
#include "storage/store.hpp"

#include <memory>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

namespace coppice {

/// The owner of the store's files: overlays, seals, blobs. Blocks on the disk: spawned detached.
struct store_state {
  store_state() = default;

  std::shared_ptr<storage::store> files;

  static inline const char* name = "store";
};

store_actor::behavior_type store(store_actor::stateful_pointer<store_state> self,
                                 std::shared_ptr<storage::store> files);

} // namespace coppice
