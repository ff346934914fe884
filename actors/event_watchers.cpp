#include "actors/event_watchers.hpp"

#include <algorithm>
#include <utility>

namespace coppice {

void event_watchers::answer(promise& asked, bool is_live) const {
  asked.deliver(make_frame<proto::OperationProgress>([&](auto r) {
    r.setEventCount(durable_events_);
    r.setLive(is_live);
  }));
}

void event_watchers::add(std::uint64_t have_events, promise asked, time_point now) {
  if (durable_events_ > have_events) {
    answer(asked, true);
    return;
  }
  if (waiting_.size() == waiting_max) {
    answer(waiting_.front().asked, true);
    waiting_.pop_front();
  }
  waiting_.push_back({have_events, now, std::move(asked)});
}

void event_watchers::tell(std::uint64_t durable_events) {
  durable_events_ = durable_events;
  auto satisfied =
      std::stable_partition(waiting_.begin(), waiting_.end(), [&](const watcher& each) {
        return each.have_events >= durable_events_;
      });
  for (auto at = satisfied; at != waiting_.end(); ++at) {
    answer(at->asked, true);
  }
  waiting_.erase(satisfied, waiting_.end());
}

void event_watchers::let_go(time_point now) {
  while (!waiting_.empty() && now - waiting_.front().since >= wait_max) {
    answer(waiting_.front().asked, true);
    waiting_.pop_front();
  }
}

void event_watchers::end() {
  for (auto& each : std::exchange(waiting_, {})) {
    answer(each.asked, false);
  }
}

} // namespace coppice
