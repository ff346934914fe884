#pragma once

#include "actors/error.hpp"
#include "actors/requests.hpp"
#include "gateway/http/ask.hpp"
#include "gateway/http/context.hpp"
#include "storage/catalog.hpp"

#include <kj/exception.h>

#include <exception>
#include <utility>

namespace coppice::gateway {

/// Reads one record of the catalog on this thread.
///
/// Problem: clients poll operations, and each poll asks for a token and a record. Through actors
/// that is four hops between threads for two look-ups in memory that is mapped anyway. Guarantee:
/// the same answer as the catalog's actor gives, which is asked where the inside has no catalog of
/// its own. Only for what finds its records by their keys, and few: a listing may take long.
template <class Answer, class Request>
asio::awaitable<answer<frame<Answer>>>
look_up(context& server, frame<Request> request,
        result<frame<Answer>> (storage::catalog::*read)(typename Request::Reader) const) {
  if (!server.inside.records) {
    co_return co_await ask<Answer>(server.actors, server.inside.catalog, std::move(request),
                                   read_timeout);
  }
  try {
    auto view = request.view();
    auto found = ((*server.inside.records).*read)(*view);
    if (found.has_error()) {
      co_return refuse(to_error(found.error()));
    }
    co_return std::move(*found);
  } catch (const kj::Exception& e) {
    co_return refusal{500, std::string{"malformed record: "} + e.getDescription().cStr()};
  }
}

} // namespace coppice::gateway
