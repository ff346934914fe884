#pragma once

#include "actors/interfaces.hpp"
#include "actors/type_ids.hpp"
#include "protocol/uuid.hpp"
#include "storage/catalog.hpp"

#include <caf/actor_clock.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <unordered_set>

namespace coppice {

/// What the reclaimer works with: storage/reclaimer.hpp in the daemon.
struct reclaimer_parts {
  std::shared_ptr<const storage::catalog> catalog;
  std::function<result<std::uint64_t>(const uuid&)> remove;
  std::function<result<std::uint64_t>(const uuid&)> punch;
  /// What a look costs is measured with it.
  std::function<std::chrono::steady_clock::time_point()> now = std::chrono::steady_clock::now;
};

/// Gives back the space of deleted images in the background.
///
/// Problem: who deletes must not wait for it, a thousand deletions in a row concern the same files,
/// and to look at the file of an image with a hundred thousand children takes seconds. So one file
/// is done at a time, a file that waits is named once, and one that took long to look at is not
/// looked at again before `rest_factor` times as long has passed: the sum of it all stays a share
/// of one thread, whatever is deleted.
///
/// At start it looks at every deleted image whose file still stands: nothing is remembered on disk.
/// Blocks on the disk: spawned detached.
class reclaimer_state {
public:
  explicit reclaimer_state(reclaimer_actor::stateful_pointer<reclaimer_state> self) : self_{self} {}

  reclaimer_actor::behavior_type make_behavior(reclaimer_parts parts);

  static inline const char* name = "reclaimer";

  static constexpr int rest_factor = 10;
  /// What is looked at faster than this may be looked at again at once.
  static constexpr std::chrono::milliseconds quick{10};
  static constexpr std::chrono::minutes rest_max{10};

private:
  using time_point = caf::actor_clock::time_point;

  void take(const frame<proto::ImageDeleted>& message);
  void add_dead(const uuid& image);
  void add_from_before();
  void step();
  void remove_next();
  void punch_next();
  void go_on();

  reclaimer_actor::stateful_pointer<reclaimer_state> self_;
  reclaimer_parts parts_;
  std::deque<uuid> gone_;
  std::multimap<time_point, uuid> dead_; ///< by when they may be looked at
  std::unordered_set<uuid> is_waiting_;  ///< in dead_
  std::unordered_map<uuid, time_point> rests_until_;
  uuid last_from_before_;
  bool has_more_from_before_ = true;
  std::uint64_t generation_ = 0; ///< of the one timer
};

reclaimer_actor::behavior_type reclaimer(reclaimer_actor::stateful_pointer<reclaimer_state> self,
                                         reclaimer_parts parts);

} // namespace coppice
