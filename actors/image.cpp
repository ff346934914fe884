#include "actors/image.hpp"

#include "actors/requests.hpp"

#include <caf/send.hpp>

#include <algorithm>
#include <iterator>
#include <utility>

namespace coppice {

namespace {

// Its timers.
constexpr std::uint32_t grace_timer = 0; ///< of deletions
constexpr std::uint32_t readers_timer = 1;
constexpr std::uint32_t holds_timer = 2;

frame<proto::GetImage> look_up(capnp::Text::Reader project, const uuid& id) {
  return make_frame<proto::GetImage>([&](auto root) {
    root.setProject(project);
    id.to(root.initId());
  });
}

} // namespace

/// Ends what reads it: their timers would keep them for a while, and nobody else knows of them.
image_state::~image_state() {
  const auto end = [](const inspect_session_actor& reader) {
    if (reader) {
      caf::anon_send_exit(reader, caf::exit_reason::user_shutdown);
    }
  };
  for (const auto& [number, session] : sessions_) {
    end(session.reader);
  }
  for (const auto& w : waiting_) {
    end(w.reader);
    parts_->inspect->shelf->take(w.place);
  }
}

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
            begin(promise, request, std::move(ticket));
          },
          [this, promise](caf::error& error) mutable {
            --looking_up_;
            promise.deliver(std::move(error));
            try_removals();
            tell_if_idle();
          });
  return promise;
}

void image_state::begin(caf::typed_response_promise<frame<proto::InspectSession>> promise,
                        const frame<proto::InspectOpen>& request, std::shared_ptr<void> ticket) {
  auto view = request.view();
  open_session session;
  session.project = view->getProject();
  session.ticket = std::move(ticket);
  const auto other = uuid::from(view->getOther());
  session.is_reusable = !other; // it would read another disk as well
  if (other == id_) {
    hold(promise, std::move(session));
    return;
  }
  if (session.is_reusable) {
    session.reader = take_reader(session.project);
  }
  if (!session.reader) {
    // Its own thread: it waits for its worker's socket.
    session.reader = self_->spawn<caf::monitored + caf::detached>(
        inspect_session, parts_->inspect, id_, caf::actor_cast<caf::actor_addr>(self_));
  }
  auto number = ++last_session_;
  auto reader = session.reader;
  sessions_.emplace(number, std::move(session));
  promise.delegate(reader, edited(request, [&](auto r) { r.setSession(number); }));
}

/// A session that reads nothing: another image's is compared with this one, which has to stay.
/// There is no reader that ends when nobody asks: who opened it may never have heard of it.
void image_state::hold(caf::typed_response_promise<frame<proto::InspectSession>> promise,
                       open_session session) {
  const auto number = ++last_session_;
  session.asked = self_->clock().now();
  sessions_.emplace(number, std::move(session));
  look_at_holds();
  promise.deliver(make_frame<proto::InspectSession>([&](auto r) { r.setSession(number); }));
}

void image_state::look_at_holds() {
  const auto is_hold = [](const auto& s) {
    return !s.second.reader;
  };
  if (std::any_of(sessions_.begin(), sessions_.end(), is_hold) &&
      !std::exchange(is_looking_at_holds_, true)) {
    start_timer(parts_->inspect->hold_kept, holds_timer, 0);
  }
}

void image_state::end_forgotten_holds() {
  const auto now = self_->clock().now();
  std::erase_if(sessions_, [&](const auto& s) {
    return !s.second.reader && now - s.second.asked >= parts_->inspect->hold_kept;
  });
  try_removals();
}

// -- readers that wait ---------------------------------------------------------------------------

inspect_session_actor image_state::take_reader(const std::string& project) {
  for (auto it = waiting_.rbegin(); it != waiting_.rend(); ++it) {
    if (it->project == project) {
      auto out = it->reader;
      parts_->inspect->shelf->take(it->place);
      waiting_.erase(std::next(it).base());
      return out;
    }
  }
  return {};
}

/// The session is over; its reader may do for another.
void image_state::keep_reader(std::uint64_t session) {
  auto ended = sessions_.extract(session);
  if (!ended) {
    return;
  }
  auto& was = ended.mapped();
  if (!was.reader) {
    try_removals();
    return;
  }
  if (was.is_reusable && removals_.empty()) {
    auto place = parts_->inspect->shelf->put(caf::actor_cast<caf::actor_addr>(self_));
    waiting_.push_back({was.reader, was.project, place, self_->clock().now()});
    look_at_readers();
  } else {
    end_reader(was.reader);
  }
  try_removals();
}

void image_state::end_reader(const inspect_session_actor& reader) {
  leaving_.push_back(reader);
  self_->send_exit(reader, caf::exit_reason::user_shutdown);
}

void image_state::give_up_readers(const std::function<bool(const waiting_reader&)>& which) {
  std::erase_if(waiting_, [&](const waiting_reader& w) {
    if (!which(w)) {
      return false;
    }
    parts_->inspect->shelf->take(w.place);
    end_reader(w.reader);
    return true;
  });
}

/// Starts the timer for the one that has waited longest, if there is none.
void image_state::look_at_readers() {
  if (!waiting_.empty() && !std::exchange(is_looking_at_readers_, true)) {
    start_timer(parts_->inspect->reader_kept, readers_timer, 0);
  }
}

void image_state::start_timer(std::chrono::milliseconds delay, std::uint32_t timer,
                              std::uint64_t generation) {
  ++timers_;
  self_->delayed_send(self_, delay, make_frame<proto::Tick>([&](auto r) {
                        r.setTimer(timer);
                        r.setGeneration(generation);
                      }));
}

void image_state::tick(proto::Tick::Reader t) {
  --timers_;
  if (t.getTimer() == readers_timer) {
    is_looking_at_readers_ = false;
    const auto now = self_->clock().now();
    give_up_readers([&](const auto& w) { return now - w.since >= parts_->inspect->reader_kept; });
    look_at_readers();
  } else if (t.getTimer() == holds_timer) {
    is_looking_at_holds_ = false;
    end_forgotten_holds();
    look_at_holds();
  } else if (t.getGeneration() == grace_generation_) {
    refuse_removals();
  }
  tell_if_idle();
}

void image_state::reader_down(const caf::actor_addr& reader) {
  std::erase_if(sessions_, [&](const auto& s) { return s.second.reader == reader; });
  std::erase_if(leaving_, [&](const auto& r) { return r == reader; });
  std::erase_if(waiting_, [&](const auto& w) {
    const bool is_it = w.reader == reader;
    if (is_it) {
      parts_->inspect->shelf->take(w.place);
    }
    return is_it;
  });
}

void image_state::close(const frame<proto::InspectClose>& request) {
  ++received_;
  auto number = request.view()->getSession();
  if (auto it = sessions_.find(number); it != sessions_.end()) {
    if (it->second.reader) {
      self_->send(it->second.reader, request);
    }
    keep_reader(number);
  }
  tell_if_idle();
}

// -- reading and deleting ------------------------------------------------------------------------

caf::result<frame<proto::InspectChunk>>
image_state::read(const frame<proto::InspectNext>& request) {
  ++received_;
  auto view = request.view();
  auto it = sessions_.find(view->getSession());
  if (it == sessions_.end()) {
    tell_if_idle();
    return make_error(ec::gone, "the reading session has ended");
  }
  if (!it->second.reader) { // it is held on
    it->second.asked = self_->clock().now();
    return make_frame<proto::InspectChunk>();
  }
  return self_->delegate(it->second.reader, request);
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
              start_timer(parts_->reading_grace, grace_timer, ++grace_generation_);
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
  if (!removals_.empty()) {
    give_up_readers([](const waiting_reader&) { return true; });
  }
  if (!sessions_.empty() || !leaving_.empty() || looking_up_ != 0) {
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
}

void image_state::tell_if_idle() {
  // With a timer on its way it lives on; the directory has to know of it, to end it.
  if (pins_.empty() && sessions_.empty() && waiting_.empty() && leaving_.empty() &&
      looking_up_ == 0 && removals_.empty() && removing_ == 0 && timers_ == 0) {
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
    reader_down(down.source);
    try_removals();
    tell_if_idle();
  });
  return {
      [this](const frame<proto::PinImage>& r) { return pin(r); },
      [this](const frame<proto::UnpinImage>& r) { unpin(r); },
      [this](const frame<proto::InspectOpen>& r) { return open(r); },
      [this](const frame<proto::InspectNext>& r) { return read(r); },
      [this](const frame<proto::InspectClose>& r) { close(r); },
      [this](const frame<proto::DeleteImage>& r) { return remove(r); },
      [this](const frame<proto::InspectEnded>& r) { keep_reader(r.view()->getSession()); },
      [this](const frame<proto::InspectTrim>& r) {
        give_up_readers([at = r.view()->getPlace()](const auto& w) { return w.place == at; });
      },
      [this](const frame<proto::Tick>& t) { tick(*t.view()); },
  };
}

image_actor::behavior_type image(image_actor::stateful_pointer<image_state> self,
                                 std::shared_ptr<const image_parts> parts, uuid id,
                                 images_actor directory) {
  return self->state.make_behavior(std::move(parts), id, directory);
}

} // namespace coppice
