#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <utility>

namespace coppice {

/// How many VMs of each class should wait.
///
/// Problem: one that waits saves its run a quarter of a second and costs memory and, once, a core
/// for that quarter. So as many are kept as were asked for of late, between a floor, for the class
/// that is asked for by default, and a ceiling for all together; none while the machine's memory is
/// short; and only where those that run leave room in what VMs may have together: the pool gives
/// way to them.
///
/// Pure: the caller brings the time and says what is there.
class pool_plan {
public:
  using class_key = std::pair<std::uint32_t, std::uint32_t>; ///< cpus, MiB
  using time_point = std::chrono::steady_clock::time_point;

  struct limits {
    std::size_t floor = 1;   ///< of the default class
    std::size_t ceiling = 4; ///< of all classes together; 0: none wait
    std::uint64_t memory_kept_free_bytes = 512u << 20;
  };
  /// What one that waits is reckoned with: QEMU and what its guest has changed of the template's
  /// memory, which all share (45 MiB were measured).
  static constexpr std::uint64_t waiting_bytes = 64u << 20;
  /// Demand is what was asked for within this time.
  static constexpr std::chrono::seconds window{10};
  /// Waits longer after each failure in a row, up to the last.
  static constexpr std::chrono::seconds pause_first{1};
  static constexpr std::chrono::seconds pause_max{60};

  pool_plan(limits of, const class_key& usual) : limits_{of}, usual_{usual} {}

  void asked(const class_key& which, time_point now);

  void failed(time_point now);
  void succeeded() {
    failures_ = 0;
  }

  /// What should be there. `usual` first, then by demand. `room_bytes`: of what VMs may have
  /// together, what those that run leave, each of them reckoned in full.
  std::map<class_key, std::size_t> wanted(time_point now, std::uint64_t free_bytes,
                                          std::uint64_t room_bytes);

  /// As many may wait in so much room.
  static std::size_t most_in(std::uint64_t room_bytes) {
    return static_cast<std::size_t>(room_bytes / waiting_bytes);
  }

  /// Not before this one is made after failures.
  time_point not_before() const {
    return not_before_;
  }

private:
  limits limits_;
  class_key usual_;
  std::deque<std::pair<time_point, class_key>> asked_;
  unsigned failures_ = 0;
  time_point not_before_{};
};

} // namespace coppice
