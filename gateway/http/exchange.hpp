#pragma once

#include "gateway/http/ask.hpp"
#include "gateway/http/caller.hpp"
#include "gateway/http/context.hpp"
#include "gateway/http/json_text.hpp"
#include "gateway/http/message.hpp"
#include "protocol/uuid.hpp"

#include <boost/json/object.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace coppice::gateway {

/// One request while a route answers it: what was asked, by whom, and the way to the inside.
/// Owner: the connection; it outlives the route and the reply's body.
struct exchange {
  context& server;
  bool is_head;
  const request_target& target;
  body_reader& body;
  const request_header& fields;
  std::vector<std::string> params; ///< what the route's `{}` matched
  caller who;
  memory_budget::lease memory; ///< for the body, when it must be whole
  std::string body_sha256;     ///< of a body that was read whole, where there is an Idempotency-Key

  const services& inside() const {
    return server.inside;
  }
  const settings& config() const {
    return server.inside.config;
  }
  const query_map& query() const {
    return target.query;
  }

  template <class Answer, class Handle, class Request>
  asio::awaitable<answer<frame<Answer>>> read(const Handle& handle, frame<Request> request) {
    return ask<Answer>(server.actors, handle, std::move(request), read_timeout);
  }
  template <class Answer, class Handle, class Request>
  asio::awaitable<answer<frame<Answer>>> write(const Handle& handle, frame<Request> request) {
    return ask<Answer>(server.actors, handle, std::move(request), write_timeout);
  }

  /// The body as a JSON object. 400, 413; 429 when too many large ones are being read.
  asio::awaitable<answer<boost::json::object>> read_json();
};

/// Nothing when the text is not a whole number.
std::optional<std::uint64_t> parse_count(std::string_view text);

/// The page that a listing asks for.
struct page_query {
  std::uint32_t limit = 100;
  std::uint64_t offset = 0;
  std::int64_t since_unix_ns = INT64_MIN;
  std::int64_t until_unix_ns = INT64_MAX;
};

/// limit, offset, since, until. 400, naming the parameter.
answer<page_query> parse_page(const query_map& query);

/// Fills the fields that all listings have.
template <class Builder>
void fill_page(Builder root, const page_query& page, const std::string& project) {
  root.setProject(project);
  root.setLimit(page.limit);
  root.setOffset(page.offset);
  root.setSinceUnixNs(page.since_unix_ns);
  root.setUntilUnixNs(page.until_unix_ns);
}

/// A number of the query, or `fallback` where it is absent. 400, naming the parameter: it is none,
/// or larger than `most`.
answer<std::uint64_t> parse_number(const query_map& query, std::string_view name,
                                   std::uint64_t fallback, std::uint64_t most);

/// An id from the path; a malformed one names nothing that exists: 404.
answer<uuid> parse_id(const std::string& text, std::string_view what);

/// Wall clock, for records and listing bounds.
std::int64_t unix_now_ns();

} // namespace coppice::gateway
