#pragma once

#include "actors/interfaces.hpp"
#include "actors/type_ids.hpp"
#include "storage/catalog.hpp"

#include <functional>
#include <memory>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

namespace coppice {

/// The one writer of the catalog, with group commit.
///
/// Problem: a durable commit costs a disk flush; one for each change would cap the node at a few
/// hundred operations a second. So changes are collected while messages wait in the mailbox, then
/// applied in one transaction in order of arrival; every asker is answered after that commit.
/// A change that is refused (not_found, conflict) does not harm its neighbours.
///
/// Blocks on the disk: spawned detached.
class catalog_writer_state {
public:
  explicit catalog_writer_state(catalog_writer_actor::stateful_pointer<catalog_writer_state> self)
      : self_{self} {}

  catalog_writer_actor::behavior_type make_behavior(std::shared_ptr<storage::catalog> catalog);

  /// Durable transactions so far; for tests and metrics.
  std::uint64_t commits() const {
    return commits_;
  }

  static inline const char* name = "catalog_writer";

  /// Changes in one transaction at most: bounds its size and the wait of the first asker.
  static constexpr std::size_t batch_max = 512;

private:
  /// One change that waits for a commit.
  struct change {
    std::function<result<void>(storage::catalog::transaction&)> apply; ///< keeps its own answer
    std::function<void(const failure*)> tell; ///< answers the asker; null: it is committed
  };

  template <class Answer, class Apply>
  caf::result<frame<Answer>> enqueue(Apply apply);
  void request_flush();
  void flush();

  catalog_writer_actor::stateful_pointer<catalog_writer_state> self_;
  std::shared_ptr<storage::catalog> catalog_;
  std::vector<change> waiting_;
  bool flush_requested_ = false;
  std::uint64_t commits_ = 0;
};

catalog_writer_actor::behavior_type
catalog_writer(catalog_writer_actor::stateful_pointer<catalog_writer_state> self,
               std::shared_ptr<storage::catalog> catalog);

} // namespace coppice
