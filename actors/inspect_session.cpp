#include "actors/inspect_session.hpp"

#include "actors/requests.hpp"
#include "storage/error.hpp"
#include "storage/frame_stream.hpp"

#include <caf/send.hpp>
#include <caf/typed_response_promise.hpp>

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace coppice {

namespace {

constexpr int worker_socket = 3; ///< descriptor numbers that the worker expects
constexpr int disk_socket = 4;

ec code_of(proto::InspectAnswer::Reason reason) {
  switch (reason) {
  case proto::InspectAnswer::Reason::NOT_FOUND:
    return ec::not_found;
  case proto::InspectAnswer::Reason::WRONG_TYPE:
    return ec::wrong_type;
  case proto::InspectAnswer::Reason::DAMAGED:
    return ec::damaged;
  }
  return ec::damaged;
}

} // namespace

std::shared_ptr<void> session_limit::try_take() {
  if (taken_.fetch_add(1) >= max_) {
    taken_.fetch_sub(1);
    return nullptr;
  }
  return {this, [keep = shared_from_this()](session_limit* limit) {
            limit->taken_.fetch_sub(1);
          }};
}

inspect_session_state::~inspect_session_state() {
  if (socket_ >= 0) {
    ::close(socket_);
  }
  if (slot_ != 0) {
    caf::anon_send(parts_->store,
                   make_frame<proto::DiscardOverlay>([&](auto r) { view_.to(r.initOverlay()); }));
    caf::anon_send(parts_->store,
                   make_frame<proto::CloseDiskSlot>([&](auto r) { r.setSlot(slot_); }));
  }
}

result<void> inspect_session_state::start_worker() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return fail(vmm::ec::spawn, std::string{"socketpair: "} + std::strerror(errno));
  }
  socket_ = ends[0];
  auto seconds = static_cast<time_t>(parts_->answer_timeout.count());
  timeval limit{.tv_sec = seconds, .tv_usec = 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  vmm::child_options options;
  options.kind = vmm::child_kind::inspect_worker;
  options.argv = {parts_->program, "inspect-worker"};
  auto disk = parts_->sockets->take(slot_);
  options.descriptors = {{ends[1], worker_socket}, {disk.get(), disk_socket}};
  auto child =
      vmm::child_process::start(*parts_->loop, std::move(options), [](const vmm::child_exit&) {
        // its end is seen on the socket
      });
  ::close(ends[1]);
  if (child.has_error()) {
    return child.error();
  }
  worker_ = std::move(*child);
  return {};
}

template <class Message>
result<frame<proto::InspectAnswer>> inspect_session_state::exchange(const frame<Message>& message) {
  if (auto sent = storage::write_frame(socket_, message); sent.has_error()) {
    return sent.error();
  }
  auto bytes = storage::read_frame(socket_);
  if (bytes.has_error()) {
    return bytes.error();
  }
  if (!*bytes) {
    return fail(storage::ec::damaged, "the reader of the image died");
  }
  auto answer = checked<proto::InspectAnswer>(**bytes, limits::channel_frame_bytes_max);
  if (!answer) {
    return fail(storage::ec::damaged, "the reader of the image broke its protocol");
  }
  return *answer;
}

caf::result<frame<proto::InspectSession>>
inspect_session_state::open(const frame<proto::InspectOpen>& request) {
  auto promise = self_->make_response_promise<frame<proto::InspectSession>>();
  self_->request(parts_->store, caf::infinite, make_frame<proto::OpenDiskSlot>())
      .then(
          [this, promise, request](const frame<proto::DiskSlot>& opened) {
            slot_ = opened.view()->getSlot();
            attach(promise, request);
          },
          [this, promise](const caf::error& e) mutable {
            self_->quit();
            promise.deliver(e);
          });
  return promise;
}

void inspect_session_state::attach(
    caf::typed_response_promise<frame<proto::InspectSession>> promise,
    const frame<proto::InspectOpen>& request) {
  self_
      ->request(parts_->store, caf::infinite, make_frame<proto::AttachOverlay>([&](auto r) {
                  view_.to(r.initOverlay());
                  image_.to(r.initParent());
                  r.setSlot(slot_);
                  r.setOwnBytesMax(0); // to read, not to write
                }))
      .then(
          [this, promise, request](const frame<proto::OverlayAttached>&) mutable {
            auto opened = guarded([&]() { return ask_worker(request); });
            if (opened) {
              promise.deliver(std::move(*opened));
            } else {
              promise.deliver(std::move(opened.error()));
            }
          },
          [this, promise](const caf::error& e) mutable {
            self_->quit();
            promise.deliver(e);
          });
}

caf::expected<frame<proto::InspectSession>>
inspect_session_state::ask_worker(const frame<proto::InspectOpen>& request) {
  // Whatever goes wrong ends this session; the asker gets the reason first.
  auto end_with = [this](caf::error error) {
    self_->quit();
    return error;
  };
  if (auto started = start_worker(); started.has_error()) {
    return end_with(to_error(started.error()));
  }
  auto view = request.view();
  auto answer = exchange(make_frame<proto::InspectWork>([&](auto root) {
    root.setVerb(view->getVerb());
    root.setPath(view->getPath());
  }));
  if (answer.has_error()) {
    return end_with(to_error(answer.error()));
  }
  auto said = answer->view();
  if (said->isFailed()) {
    return end_with(
        make_error(code_of(said->getFailed().getReason()), said->getFailed().getText().cStr()));
  }
  if (!said->isOpened()) {
    return end_with(make_error(ec::damaged, "the reader of the image broke its protocol"));
  }
  if (view->getVerb() == proto::InspectVerb::STAT) {
    self_->quit(); // the size is all that was asked for
  }
  rearm();
  return make_frame<proto::InspectSession>([&](auto root) {
    root.setSession(number_);
    root.setSizeBytes(said->getOpened());
  });
}

caf::result<frame<proto::InspectChunk>> inspect_session_state::read() {
  auto answer = exchange(make_frame<proto::InspectMore>());
  if (answer.has_error()) {
    self_->quit();
    return to_error(answer.error());
  }
  rearm();
  auto said = answer->view();
  switch (said->which()) {
  case proto::InspectAnswer::ENTRIES:
    return make_frame<proto::InspectChunk>([&](auto root) { root.setEntries(said->getEntries()); });
  case proto::InspectAnswer::DATA:
    return make_frame<proto::InspectChunk>([&](auto root) { root.setData(said->getData()); });
  case proto::InspectAnswer::END:
    self_->quit();
    return make_frame<proto::InspectChunk>([](auto root) { root.setEnd(); });
  case proto::InspectAnswer::FAILED:
    self_->quit();
    return make_error(code_of(said->getFailed().getReason()), said->getFailed().getText().cStr());
  case proto::InspectAnswer::OPENED:
    break;
  }
  self_->quit();
  return make_error(ec::damaged, "the reader of the image broke its protocol");
}

void inspect_session_state::rearm() {
  self_->delayed_send(self_, parts_->idle_timeout,
                      make_frame<proto::Tick>([&](auto r) { r.setGeneration(++generation_); }));
}

inspect_session_actor::behavior_type
inspect_session_state::make_behavior(std::shared_ptr<const inspect_parts> parts, const uuid& image,
                                     std::uint64_t number, std::shared_ptr<void> ticket) {
  parts_ = std::move(parts);
  image_ = image;
  number_ = number;
  ticket_ = std::move(ticket);
  return {
      [this](const frame<proto::InspectOpen>& r) { return open(r); },
      [this](const frame<proto::InspectNext>&) { return guarded([&]() { return read(); }); },
      [this](const frame<proto::InspectClose>&) { self_->quit(); },
      [this](const frame<proto::Tick>& t) {
        if (t.view()->getGeneration() == generation_) {
          self_->quit();
        }
      },
  };
}

inspect_session_actor::behavior_type
inspect_session(inspect_session_actor::stateful_pointer<inspect_session_state> self,
                std::shared_ptr<const inspect_parts> parts, uuid image, std::uint64_t number,
                std::shared_ptr<void> ticket) {
  return self->state.make_behavior(std::move(parts), image, number, std::move(ticket));
}

} // namespace coppice
