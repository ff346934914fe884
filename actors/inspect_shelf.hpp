#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include <caf/actor_addr.hpp>

namespace coppice {

/// How many sessions may be open on the node. Each holds a ticket while it lives.
class session_limit : public std::enable_shared_from_this<session_limit> {
public:
  explicit session_limit(std::uint32_t sessions_max) : max_{sessions_max} {}

  /// A ticket that gives its place back when the last copy goes; null when all are taken.
  std::shared_ptr<void> try_take();

private:
  std::mutex mutex_;
  std::uint32_t max_;
  std::uint32_t taken_ = 0;
};

/// The readers of the node that wait for another session.
///
/// Problem: starting a reader process costs a hundred times what a listing does, so one that is
/// free is kept for a while; but a thousand images that were looked at once must not leave a
/// thousand processes. Guarantee: at most `readers_max` wait; the one that has waited longest is
/// given up for the next. Any thread.
class inspect_shelf {
public:
  explicit inspect_shelf(std::size_t readers_max) : max_{readers_max} {}

  using place = std::uint64_t;

  /// A reader of that image's actor waits from now on, at that place. Tells an image's actor by
  /// InspectTrim to give one up, where there are too many.
  place put(const caf::actor_addr& image);

  /// It waits no more; unknown is fine.
  void take(place from);

private:
  std::mutex mutex_;
  std::size_t max_;
  place last_ = 0;
  std::list<std::pair<place, caf::actor_addr>> waiting_; ///< the longest first
};

} // namespace coppice
