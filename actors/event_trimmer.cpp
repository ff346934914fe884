#include "actors/event_trimmer.hpp"

#include "actors/log.hpp"
#include "actors/requests.hpp"

#include <utility>

namespace coppice {

void event_trimmer_state::look() {
  const auto keep_ns = std::chrono::nanoseconds{policy_.keep}.count();
  auto request = make_frame<proto::TrimEvents>([&](auto r) {
    r.setEndedBeforeUnixNs(unix_now_ns() - keep_ns);
    r.setLogsKeptMax(policy_.keep_operations);
    r.setRowsMax(rows_max);
  });
  self_->request(writer_, caf::infinite, std::move(request))
      .then(
          [this](const frame<proto::EventsTrimmed>& piece) {
            auto view = piece.view();
            done(*view);
          },
          [this](const caf::error& e) {
            log::error("old event logs could not be trimmed", "error", text_of(e));
            self_->delayed_send(self_, interval, make_frame<proto::Tick>());
          });
}

void event_trimmer_state::done(proto::EventsTrimmed::Reader piece) {
  logs_ += piece.getLogs();
  if (piece.getMore()) {
    self_->delayed_send(self_, pause, make_frame<proto::Tick>());
    return;
  }
  if (const auto logs = std::exchange(logs_, 0); logs > 0) {
    log::info("old event logs trimmed", "operations", logs);
  }
  self_->delayed_send(self_, interval, make_frame<proto::Tick>());
}

event_trimmer_actor::behavior_type event_trimmer_state::make_behavior(catalog_writer_actor writer,
                                                                      event_policy policy) {
  writer_ = std::move(writer);
  policy_ = policy;
  self_->send(self_, make_frame<proto::Tick>());
  return {
      [this](const frame<proto::Tick>&) { look(); },
  };
}

event_trimmer_actor::behavior_type
event_trimmer(event_trimmer_actor::stateful_pointer<event_trimmer_state> self,
              catalog_writer_actor writer, event_policy policy) {
  return self->state.make_behavior(std::move(writer), policy);
}

} // namespace coppice
