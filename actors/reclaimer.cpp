#include "actors/reclaimer.hpp"

#include "actors/log.hpp"
#include "actors/requests.hpp"

#include <algorithm>
#include <utility>

namespace coppice {

void reclaimer_state::take(const frame<proto::ImageDeleted>& message) {
  auto view = message.view();
  for (auto id : view->getGone()) {
    gone_.push_back(uuid::from(id));
  }
  for (auto id : view->getDead()) {
    add_dead(uuid::from(id));
  }
  go_on();
}

void reclaimer_state::add_dead(const uuid& image) {
  if (!is_waiting_.insert(image).second) {
    return;
  }
  auto now = self_->clock().now();
  auto rests = rests_until_.find(image);
  dead_.emplace(rests == rests_until_.end() ? now : std::max(now, rests->second), image);
}

void reclaimer_state::add_from_before() {
  auto page = parts_.catalog->list_dead_files(last_from_before_);
  if (page.has_error()) {
    log::warn("deleted images could not be listed", "error", page.error().text);
    has_more_from_before_ = false;
    return;
  }
  for (const auto& image : *page) {
    add_dead(image);
    last_from_before_ = image;
  }
  has_more_from_before_ = !page->empty();
}

void reclaimer_state::remove_next() {
  auto image = gone_.front();
  gone_.pop_front();
  rests_until_.erase(image);
  auto freed = parts_.remove(image);
  if (freed.has_error()) {
    log::warn("file of a deleted image stays until the next start", "image", image, "error",
              freed.error().text);
  } else {
    log::info("file of a deleted image removed", "image", image, "bytes", *freed);
  }
}

void reclaimer_state::punch_next() {
  auto image = dead_.begin()->second;
  dead_.erase(dead_.begin());
  is_waiting_.erase(image); // a deletion that comes from now on may change what is seen of it
  auto begun = parts_.now();
  auto freed = parts_.punch(image);
  auto took = parts_.now() - begun;
  if (freed.has_error()) {
    // Most likely an image below was deleted meanwhile: that deletion names this file again.
    log::info("space of a deleted image not given back for now", "image", image, "error",
              freed.error().text);
  } else if (*freed != 0) {
    log::info("space of a deleted image given back", "image", image, "bytes", *freed);
  }
  if (took > quick) {
    auto rest = std::min<std::chrono::nanoseconds>(rest_factor * took, rest_max);
    rests_until_[image] = self_->clock().now() + rest;
  } else {
    rests_until_.erase(image);
  }
}

void reclaimer_state::step() {
  // Files first: they give back most for least.
  if (!gone_.empty()) {
    remove_next();
  } else if (!dead_.empty() && dead_.begin()->first <= self_->clock().now()) {
    punch_next();
  } else if (has_more_from_before_) {
    add_from_before();
  }
  go_on();
}

void reclaimer_state::go_on() {
  auto tick = make_frame<proto::Tick>([&](auto r) { r.setGeneration(++generation_); });
  auto now = self_->clock().now();
  if (!gone_.empty() || has_more_from_before_ || (!dead_.empty() && dead_.begin()->first <= now)) {
    self_->send(self_, tick); // behind what has come meanwhile, an exit included
  } else if (!dead_.empty()) {
    self_->delayed_send(self_, dead_.begin()->first - now, tick);
  }
}

reclaimer_actor::behavior_type reclaimer_state::make_behavior(reclaimer_parts parts) {
  parts_ = std::move(parts);
  go_on();
  return {
      [this](const frame<proto::ImageDeleted>& m) { take(m); },
      [this](const frame<proto::Tick>& t) {
        if (t.view()->getGeneration() == generation_) {
          step();
        }
      },
  };
}

reclaimer_actor::behavior_type reclaimer(reclaimer_actor::stateful_pointer<reclaimer_state> self,
                                         reclaimer_parts parts) {
  return self->state.make_behavior(std::move(parts));
}

} // namespace coppice
