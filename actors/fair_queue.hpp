#pragma once

#include "protocol/uuid.hpp"

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <ext/pb_ds/assoc_container.hpp>
#include <ext/pb_ds/tree_policy.hpp>

namespace coppice {

/// Who runs next.
///
/// Problem: runs of several projects want processors and memory of one node, some more than others.
/// First come first served lets the one who asks a thousand times starve the rest; taking what fits
/// starves the large ones. Guarantees:
///
/// - What runs never takes more than the capacity, and what can never fit is told at once.
/// - Between projects the one that holds the smallest share of the node is next (of processors or
///   of memory, whichever is larger), among equals the one that has had no turn for longest. So a
///   project that comes with one run waits for one slot, however many others wait.
/// - Within a project the higher priority is next, then the earlier one. With every
///   `grants_per_level` runs of its project that were started, what waits has gained one level on
///   what comes now: nothing waits for ever behind newcomers.
/// - If the next one does not fit into what is free, at most `passes_max` others that fit go first;
///   then nothing starts until it does.
///
/// No thread, no clock, no actor: its owner says when something came or ended. Adding, removing,
/// starting and asking for a place take time logarithmic in what waits; starting looks at one
/// candidate for each size of run beside.
class fair_queue {
public:
  /// What one run takes.
  struct demand {
    std::uint32_t cpus = 1;
    std::uint32_t memory_mib = 0;
    auto operator<=>(const demand&) const = default;
  };

  /// What all that run may take together.
  struct capacity {
    std::uint32_t running = 0;
    std::uint64_t cpus = 0;
    std::uint64_t memory_mib = 0;
  };

  struct request {
    uuid id;
    std::string project;
    demand needs;
    std::int32_t priority = 0;
  };

  static constexpr std::int64_t grants_per_level = 16;
  static constexpr std::uint32_t passes_max = 16;

  fair_queue() = default;
  fair_queue(const fair_queue&) = delete;
  fair_queue& operator=(const fair_queue&) = delete;

  /// Nothing is granted before the first call. What waits and can never fit is removed and told.
  std::vector<std::pair<uuid, demand>> set_capacity(const capacity& total);

  /// Whether it fits when nothing else runs; true while the capacity is not known.
  bool can_ever_run(const demand& needs) const;

  /// Precondition: it can run some day. False: this id waits or runs already; nothing has changed.
  bool add(const request& wanted);

  /// The next one that may start now; it runs from here on.
  std::optional<uuid> grant();

  /// What waits or runs leaves; false: not known.
  bool remove(const uuid& id);

  /// 1: the next one of its project. Nothing for what runs or is not known.
  std::optional<std::size_t> position(const uuid& id) const;

  std::size_t waiting_count() const {
    return waiting_count_;
  }
  std::size_t running_count() const {
    return running_.running;
  }
  const capacity& used() const {
    return running_;
  }
  /// With something that waits or runs; others are forgotten.
  std::size_t project_count() const {
    return projects_.size();
  }
  /// Comparisons and candidates looked at so far: what the cost of all calls grows with.
  std::uint64_t steps() const {
    return steps_;
  }

private:
  /// The order within a project: smaller is sooner.
  struct rank {
    std::int64_t level = 0; ///< grants of the project when it came, less what its priority is worth
    std::uint64_t arrival = 0;
    auto operator<=>(const rank&) const = default;
  };

  /// The order between projects: smaller is sooner.
  struct turn {
    std::uint64_t share = 0;
    std::uint64_t last = 0; ///< when it was served, or began to wait after all that were
    std::uint64_t arrival = 0;
    auto operator<=>(const turn&) const = default;
  };

  struct entry;
  struct project;

  template <class Key>
  struct counted_less {
    std::uint64_t* steps;
    bool operator()(const Key& a, const Key& b) const {
      ++*steps;
      return a < b;
    }
  };

  using waiting_tree = __gnu_pbds::tree<rank, entry*, counted_less<rank>, __gnu_pbds::rb_tree_tag,
                                        __gnu_pbds::tree_order_statistics_node_update>;
  using lane = std::map<turn, project*, counted_less<turn>>;

  struct project {
    project(std::string project_name, std::uint64_t* steps)
        : name{std::move(project_name)}, waiting{counted_less<rank>{steps}} {}

    std::string name;
    waiting_tree waiting;
    capacity used; ///< by what runs
    std::int64_t grants = 0;
    turn next; ///< its key in the lane of its first waiting one's demand
  };

  struct entry {
    uuid id;
    project* owner = nullptr;
    demand needs;
    rank place;
    bool is_running = false;
  };

  bool fits_now(const demand& needs) const;
  std::uint64_t share_of(const capacity& used) const;
  /// A project is in a lane exactly while it waits; both are called around each change of it.
  void leave_lane(project& p);
  void enter_lane(project& p);
  void start(entry& e);
  void forget_if_idle(project& p);

  mutable std::uint64_t steps_ = 0;
  std::optional<capacity> total_;
  capacity running_;
  std::size_t waiting_count_ = 0;
  std::uint64_t arrivals_ = 0;
  std::uint64_t grants_ = 0;
  std::uint32_t passes_ = 0; ///< since the first one in order was last granted
  std::unordered_map<uuid, entry> entries_;
  std::unordered_map<std::string, project> projects_;
  std::map<demand, lane> lanes_; ///< by what each project's first one takes
};

} // namespace coppice
