#pragma once

#include "actors/interfaces.hpp"
#include "actors/type_ids.hpp"

#include <chrono>
#include <cstdint>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

namespace coppice {

/// How long event logs of ended operations are kept: whichever says less.
struct event_policy {
  std::chrono::seconds keep{};
  std::uint64_t keep_operations = 0;
};

/// Gives up old event logs.
///
/// Problem: a policy that becomes stricter, or a day of heavy use long ago, makes millions of rows
/// due at once, and the catalog has one writer. So it asks for a piece at a time, waits for its
/// answer and a little longer, and everybody else's changes go in between.
///
/// A piece that fails (a full disk) is tried again at the next look. Owner: the runtime.
class event_trimmer_state {
public:
  explicit event_trimmer_state(event_trimmer_actor::stateful_pointer<event_trimmer_state> self)
      : self_{self} {}

  event_trimmer_actor::behavior_type make_behavior(catalog_writer_actor writer,
                                                   event_policy policy);

  static inline const char* name = "event_trimmer";

  /// Rows in one transaction at most.
  static constexpr std::uint32_t rows_max = 1000;
  /// Between two pieces: at most a tenth of the writer's time is ours, even on a slow disk.
  static constexpr std::chrono::milliseconds pause{100};
  /// Between two looks when nothing is due.
  static constexpr std::chrono::seconds interval{60};

private:
  void look();
  void done(proto::EventsTrimmed::Reader piece);

  event_trimmer_actor::stateful_pointer<event_trimmer_state> self_;
  catalog_writer_actor writer_;
  event_policy policy_;
  std::uint64_t logs_ = 0; ///< of this look
};

event_trimmer_actor::behavior_type
event_trimmer(event_trimmer_actor::stateful_pointer<event_trimmer_state> self,
              catalog_writer_actor writer, event_policy policy);

} // namespace coppice
