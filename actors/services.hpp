#pragma once

#include "actors/interfaces.hpp"
#include "actors/node_capacity.hpp"
#include "actors/node_metrics.hpp"
#include "actors/settings.hpp"
#include "actors/type_ids.hpp"

#include <memory>

#include <caf/actor_system.hpp>

namespace coppice::storage {
class catalog;
}

namespace coppice {

/// What the outside world's doors need of the inside.
struct services {
  caf::actor_system& system;
  catalog_reader_actor catalog;
  catalog_writer_actor catalog_writer;
  store_actor store;
  images_actor images;
  operations_actor operations;
  scheduler_actor scheduler;
  const settings& config;
  std::shared_ptr<node_metrics> metrics;
  std::shared_ptr<const known_capacity> capacity;
  /// What `catalog` reads from, for look-ups of one record that are asked for all the time: each
  /// takes microseconds, and an actor's answer several times as long. May be null.
  std::shared_ptr<const storage::catalog> records = nullptr;
};

} // namespace coppice
