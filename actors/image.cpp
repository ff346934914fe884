#include "actors/image.hpp"

#include "actors/requests.hpp"

#include <utility>

namespace coppice {

namespace {

frame<proto::GetImage> look_up(capnp::Text::Reader project, const uuid& id) {
  return make_frame<proto::GetImage>([&](auto root) {
    root.setProject(project);
    id.to(root.initId());
  });
}

} // namespace

caf::result<frame<proto::ImageRow>> image_state::pin(const frame<proto::PinImage>& request) {
  ++received_;
  ++looking_up_;
  auto view = request.view();
  auto operation = uuid::from(view->getOperation());
  // Pinned before the look-up, so that an unpin that overtakes its answer still finds it.
  pins_.insert(operation);
  auto promise = self_->make_response_promise<frame<proto::ImageRow>>();
  self_->request(parts_->catalog, caf::infinite, look_up(view->getProject(), id_))
      .then(
          [this, promise](frame<proto::ImageRow>& row) mutable {
            --looking_up_;
            promise.deliver(std::move(row));
            try_removals();
            tell_if_idle();
          },
          [this, promise, operation](caf::error& error) mutable {
            --looking_up_;
            pins_.erase(operation);
            promise.deliver(std::move(error));
            try_removals();
            tell_if_idle();
          });
  return promise;
}

void image_state::unpin(const frame<proto::UnpinImage>& request) {
  ++received_;
  auto view = request.view();
  pins_.erase(uuid::from(view->getOperation()));
  tell_if_idle();
}

caf::result<frame<proto::InspectSession>>
image_state::open(const frame<proto::InspectOpen>& request) {
  ++received_;
  auto ticket = parts_->inspect->limit->try_take();
  if (!ticket) {
    tell_if_idle();
    return make_error(ec::busy, "too many images are being read; try again in a moment");
  }
  ++looking_up_;
  auto view = request.view();
  auto promise = self_->make_response_promise<frame<proto::InspectSession>>();
  self_->request(parts_->catalog, caf::infinite, look_up(view->getProject(), id_))
      .then(
          [this, promise, request, ticket](const frame<proto::ImageRow>&) mutable {
            --looking_up_;
            auto number = ++last_session_;
            // Its own thread: it waits for its worker's socket.
            auto session = self_->spawn<caf::monitored + caf::detached>(
                inspect_session, parts_->inspect, id_, number, std::move(ticket));
            sessions_.emplace(number, session);
            promise.delegate(session, request);
          },
          [this, promise](caf::error& error) mutable {
            --looking_up_;
            promise.deliver(std::move(error));
            try_removals();
            tell_if_idle();
          });
  return promise;
}

caf::result<frame<proto::InspectChunk>>
image_state::read(const frame<proto::InspectNext>& request) {
  ++received_;
  auto view = request.view();
  auto it = sessions_.find(view->getSession());
  if (it == sessions_.end()) {
    tell_if_idle();
    return make_error(ec::gone, "the reading session has ended");
  }
  return self_->delegate(it->second, request);
}

caf::result<frame<proto::Done>> image_state::remove(const frame<proto::DeleteImage>& request) {
  ++received_;
  ++looking_up_;
  auto view = request.view();
  auto promise = self_->make_response_promise<frame<proto::Done>>();
  // First of all whether it is the asker's: who reads another project's image is none of his.
  self_->request(parts_->catalog, caf::infinite, look_up(view->getProject(), id_))
      .then(
          [this, promise, request](const frame<proto::ImageRow>&) {
            --looking_up_;
            removals_.push_back({request, promise});
            try_removals();
            if (removals_.size() == 1) {
              self_->delayed_send(
                  self_, parts_->reading_grace,
                  make_frame<proto::Tick>([&](auto r) { r.setGeneration(++grace_generation_); }));
            }
          },
          [this, promise](caf::error& error) mutable {
            --looking_up_;
            promise.deliver(std::move(error));
            try_removals();
            tell_if_idle();
          });
  return promise;
}

void image_state::try_removals() {
  if (!sessions_.empty() || looking_up_ != 0) {
    return;
  }
  for (auto& next : std::exchange(removals_, {})) {
    ++removing_; // the directory must not make another actor meanwhile
    // await: nothing else is handled before the catalog has decided, so no session can begin.
    self_->request(parts_->catalog_writer, caf::infinite, next.request)
        .await(
            [this, answer = next.answer](const frame<proto::ImageDeleted>& deleted) mutable {
              --removing_;
              self_->send(parts_->reclaimer, deleted);
              answer.deliver(make_frame<proto::Done>());
              tell_if_idle();
            },
            [this, answer = next.answer](caf::error& error) mutable {
              --removing_;
              answer.deliver(std::move(error));
              tell_if_idle();
            });
  }
}

void image_state::refuse_removals() {
  for (auto& next : std::exchange(removals_, {})) {
    next.answer.deliver(
        make_error(ec::conflict, "image " + id_.text() + " is in use: it is being read"));
  }
  tell_if_idle();
}

void image_state::tell_if_idle() {
  if (pins_.empty() && sessions_.empty() && looking_up_ == 0 && removals_.empty() &&
      removing_ == 0) {
    self_->send(directory_, make_frame<proto::ImageIdle>([&](auto root) {
                  id_.to(root.initImage());
                  root.setReceived(received_);
                }));
  }
}

image_actor::behavior_type image_state::make_behavior(std::shared_ptr<const image_parts> parts,
                                                      const uuid& id,
                                                      const images_actor& directory) {
  parts_ = std::move(parts);
  id_ = id;
  directory_ = directory;
  self_->set_down_handler([this](const caf::down_msg& down) {
    std::erase_if(sessions_, [&](const auto& s) { return s.second == down.source; });
    try_removals();
    tell_if_idle();
  });
  return {
      [this](const frame<proto::PinImage>& r) { return pin(r); },
      [this](const frame<proto::UnpinImage>& r) { unpin(r); },
      [this](const frame<proto::InspectOpen>& r) { return open(r); },
      [this](const frame<proto::InspectNext>& r) { return read(r); },
      [this](const frame<proto::InspectClose>& r) {
        ++received_;
        auto view = r.view();
        if (auto it = sessions_.find(view->getSession()); it != sessions_.end()) {
          self_->send(it->second, r);
        }
        tell_if_idle();
      },
      [this](const frame<proto::DeleteImage>& r) { return remove(r); },
      [this](const frame<proto::Tick>& t) {
        if (t.view()->getGeneration() == grace_generation_) {
          refuse_removals();
        }
      },
  };
}

image_actor::behavior_type image(image_actor::stateful_pointer<image_state> self,
                                 std::shared_ptr<const image_parts> parts, uuid id,
                                 images_actor directory) {
  return self->state.make_behavior(std::move(parts), id, directory);
}

} // namespace coppice
