#pragma once

#include "actors/interfaces.hpp"
#include "actors/type_ids.hpp"
#include "storage/catalog.hpp"

#include <memory>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

namespace coppice {

/// Serves look-ups and listings. LMDB readers never wait for the writer and touch memory only, so
/// this actor runs on the shared scheduler.
struct catalog_reader_state {
  catalog_reader_state() = default;

  std::shared_ptr<const storage::catalog> catalog;

  static inline const char* name = "catalog_reader";
};

catalog_reader_actor::behavior_type
catalog_reader(catalog_reader_actor::stateful_pointer<catalog_reader_state> self,
               std::shared_ptr<const storage::catalog> catalog);

} // namespace coppice
