#pragma once

#include "gateway/gateway.hpp"
#include "gateway/http/status.hpp"

#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <memory>
#include <utility>

namespace coppice::gateway {

namespace asio = boost::asio;

/// How long an actor may take. Readings are memory-mapped look-ups, but the machine may be busy
/// booting VMs; writings wait for a disk flush that others share.
inline constexpr std::chrono::milliseconds read_timeout{10'000};
inline constexpr std::chrono::milliseconds write_timeout{60'000};

/// Asks an actor and resumes on the connection's own executor with the answer.
template <class Answer, class Handle, class Request>
asio::awaitable<answer<frame<Answer>>>
ask(door& actors, const Handle& handle, frame<Request> request, std::chrono::milliseconds timeout) {
  using reply_type = answer<frame<Answer>>;
  auto executor = co_await asio::this_coro::executor;
  auto initiate = [&](auto&& handler) {
    // The callback must be copyable, the handler is not.
    auto shared = std::make_shared<std::decay_t<decltype(handler)>>(std::move(handler));
    actors.ask<Answer>(handle, std::move(request), timeout,
                       [executor, shared](caf::expected<frame<Answer>> result) {
                         asio::post(executor, [handler = std::move(*shared),
                                               result = std::move(result)]() mutable {
                           if (result) {
                             std::move(handler)(reply_type{std::move(*result)});
                           } else {
                             std::move(handler)(reply_type{refuse(result.error())});
                           }
                         });
                       });
  };
  co_return co_await asio::async_initiate<decltype(asio::use_awaitable), void(reply_type)>(
      initiate, asio::use_awaitable);
}

} // namespace coppice::gateway
