#include "actors/images.hpp"

#include <caf/send.hpp>

#include <utility>

namespace coppice {

/// At the node's stop: their readers and timers would keep them for a while.
images_state::~images_state() {
  for (const auto& [id, e] : live_) {
    caf::anon_send_exit(e.actor, caf::exit_reason::user_shutdown);
  }
}

const image_actor& images_state::use(const uuid& id) {
  auto& e = live_[id];
  if (!e.actor) {
    e.actor = self_->spawn<caf::monitored>(image, parts_, id, caf::actor_cast<images_actor>(self_));
  }
  ++e.sent;
  return e.actor;
}

void images_state::idle(const frame<proto::ImageIdle>& message) {
  auto view = message.view();
  auto it = live_.find(uuid::from(view->getImage()));
  if (it != live_.end() && it->second.sent == view->getReceived()) {
    live_.erase(it); // the last handle: the actor ends
  }
}

images_actor::behavior_type images_state::make_behavior(std::shared_ptr<const image_parts> parts) {
  parts_ = std::move(parts);
  self_->set_down_handler([this](const caf::down_msg& down) {
    std::erase_if(live_, [&](const auto& e) { return e.second.actor == down.source; });
  });
  return {
      [this](const frame<proto::PinImage>& r) {
        auto view = r.view();
        return self_->delegate(use(uuid::from(view->getImage())), r);
      },
      [this](const frame<proto::UnpinImage>& r) {
        auto view = r.view();
        self_->send(use(uuid::from(view->getImage())), r);
      },
      [this](const frame<proto::InspectOpen>& r) {
        auto view = r.view();
        return self_->delegate(use(uuid::from(view->getImage())), r);
      },
      [this](const frame<proto::InspectNext>& r) {
        auto view = r.view();
        return self_->delegate(use(uuid::from(view->getImage())), r);
      },
      [this](const frame<proto::InspectClose>& r) {
        auto view = r.view();
        self_->send(use(uuid::from(view->getImage())), r);
      },
      [this](const frame<proto::DeleteImage>& r) {
        auto view = r.view();
        return self_->delegate(use(uuid::from(view->getImage())), r);
      },
      [this](const frame<proto::ImageIdle>& r) { idle(r); },
  };
}

images_actor::behavior_type images(images_actor::stateful_pointer<images_state> self,
                                   std::shared_ptr<const image_parts> parts) {
  return self->state.make_behavior(std::move(parts));
}

} // namespace coppice
