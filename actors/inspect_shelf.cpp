#include "actors/inspect_shelf.hpp"

#include "actors/interfaces.hpp"
#include "actors/type_ids.hpp"

#include <caf/send.hpp>

namespace coppice {

std::shared_ptr<void> session_limit::try_take() {
  std::lock_guard lock{mutex_};
  if (taken_ >= max_) {
    return nullptr;
  }
  ++taken_;
  return {this, [keep = shared_from_this()](session_limit* limit) {
            std::lock_guard giving_back{limit->mutex_};
            --limit->taken_;
          }};
}

inspect_shelf::place inspect_shelf::put(const caf::actor_addr& image) {
  std::lock_guard lock{mutex_};
  waiting_.emplace_back(++last_, image);
  const auto given = last_;
  while (waiting_.size() > max_) {
    auto [at, owner] = std::move(waiting_.front());
    waiting_.pop_front();
    if (auto alive = caf::actor_cast<image_actor>(owner)) {
      caf::anon_send(alive, make_frame<proto::InspectTrim>([&, p = at](auto r) { r.setPlace(p); }));
    }
  }
  return given;
}

void inspect_shelf::take(place from) {
  std::lock_guard lock{mutex_};
  waiting_.remove_if([&](const auto& w) { return w.first == from; });
}

} // namespace coppice
