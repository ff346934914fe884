#pragma once

#include "actors/type_ids.hpp"

#include <caf/actor_clock.hpp>
#include <caf/typed_response_promise.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>

namespace coppice {

/// Those who follow an operation's event log and wait for more of it.
///
/// Problem: a client may follow for hours, at its own pace or not at all, and go without a word;
/// nothing may queue up for it. So a follower reads the catalog for itself and only asks here to be
/// woken: a question is answered when there is more than it has, and says how much there is.
/// Guarantee: each question is answered once, early if need be: when too many wait, the one that
/// has waited longest; when it has waited for long (who asked may be gone); when the operation
/// ends. Owner: one operation actor, which must call `end` before it quits.
class event_watchers {
public:
  using promise = caf::typed_response_promise<frame<proto::OperationProgress>>;
  using time_point = caf::actor_clock::time_point;

  /// A few hundred bytes each, with what the asker keeps for it.
  static constexpr std::size_t waiting_max = 1024;
  static constexpr auto wait_max = std::chrono::seconds{20};

  bool empty() const {
    return waiting_.empty();
  }

  /// Of one who has `have_events`; answered at once when there are more.
  void add(std::uint64_t have_events, promise asked, time_point now);

  /// So many events are durable now.
  void tell(std::uint64_t durable_events);

  /// Answers those who have waited for `wait_max`.
  void let_go(time_point now);

  /// The end is durable, or will not be here: all are told to look at the catalog.
  void end();

private:
  struct watcher {
    std::uint64_t have_events;
    time_point since;
    promise asked;
  };

  void answer(promise& asked, bool is_live) const;

  std::uint64_t durable_events_ = 0;
  std::deque<watcher> waiting_; ///< who came first in front
};

} // namespace coppice
