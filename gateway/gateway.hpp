#pragma once

#include "actors/error.hpp"
#include "actors/interfaces.hpp"
#include "actors/services.hpp"
#include "actors/settings.hpp"
#include "actors/type_ids.hpp"

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/duration.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/expected.hpp>
#include <caf/send.hpp>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

namespace coppice::gateway {

using coppice::services;

/// Counts calls on their way, so that the thread that takes their answers outlives them.
class gate {
public:
  void enter();
  void leave();
  /// Blocks until every call has left.
  void wait_until_empty();

private:
  std::mutex mutex_;
  std::condition_variable empty_;
  std::size_t count_ = 0;
};

/// Something that the door actor does on behalf of another thread. The only message in the system
/// that is not a frame: it carries a closure and must never leave the process, and it cannot, since
/// CAF has no way to serialise it.
struct submission {
  std::shared_ptr<std::function<void(caf::event_based_actor*)>> run;
};

} // namespace coppice::gateway

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(coppice::gateway::submission)

namespace coppice::gateway {

/// Asks actors from a thread that is none.
///
/// Problem: the HTTP thread must never block on an actor, and an actor must never touch a socket.
/// The door is an actor that asks on the thread's behalf; the answer comes back as a callback.
/// Guarantee: each callback is called exactly once, on some thread of the actor system (or the
/// caller's, when the door is closed already), with the answer, the error or `stopping`; of what
/// was asked before `close`, none is called after it has returned.
/// Owner: the HTTP server. `ask` and `tell` may be called from any thread.
class door {
public:
  explicit door(caf::actor_system& system);
  ~door();
  door(const door&) = delete;
  door& operator=(const door&) = delete;

  template <class Answer>
  using callback = std::function<void(caf::expected<frame<Answer>>)>;

  /// Requests with a time-out keep an entry in the actor system's clock until it has passed, even
  /// when they were answered: keep it short where there are many, or have none where the asker
  /// does not wait for ever.
  template <class Answer, class Handle, class Request>
  void ask(const Handle& handle, frame<Request> request,
           std::optional<std::chrono::milliseconds> timeout, callback<Answer> done) {
    auto call = std::make_shared<pending_call<Answer>>(gate_, std::move(done));
    submit([handle, request = std::move(request), timeout,
            call = std::move(call)](caf::event_based_actor* self) mutable {
      const auto limit = timeout ? caf::duration{*timeout} : caf::duration{caf::infinite};
      self->request(handle, limit, std::move(request))
          .then([call](const frame<Answer>& answer) { call->complete(answer); },
                [call](caf::error& error) { call->complete(std::move(error)); });
    });
  }

  /// One way; nobody learns whether it arrived.
  template <class Handle, class Message>
  static void tell(const Handle& handle, frame<Message> message) {
    caf::anon_send(handle, std::move(message));
  }

  /// Ends the actor: what is under way is answered `stopping`. Blocks until it is.
  void close();

private:
  /// One request. Dropped anywhere on its way (a dead actor, a closed mailbox), it completes with
  /// `stopping`: nobody waits for ever.
  template <class Answer>
  class pending_call {
  public:
    pending_call(std::shared_ptr<gate> calls, callback<Answer> done)
        : calls_{std::move(calls)}, done_{std::move(done)} {
      calls_->enter();
    }

    ~pending_call() {
      complete(make_error(ec::stopping, "the server is stopping"));
      calls_->leave();
    }

    pending_call(const pending_call&) = delete;
    pending_call& operator=(const pending_call&) = delete;

    void complete(caf::expected<frame<Answer>> answer) {
      if (auto done = std::exchange(done_, nullptr)) {
        done(std::move(answer));
      }
    }

  private:
    std::shared_ptr<gate> calls_;
    callback<Answer> done_;
  };

  void submit(std::function<void(caf::event_based_actor*)> work);

  std::shared_ptr<gate> gate_ = std::make_shared<gate>();
  caf::actor actor_;
};

} // namespace coppice::gateway
