#include "gateway/http/session.hpp"

#include "actors/log.hpp"
#include "gateway/http/defect.hpp"
#include "gateway/http/request_id.hpp"
#include "gateway/http/routes.hpp"

#include <chrono>

namespace coppice::gateway {
namespace {

/// Runs a route; an exception is our defect, told as 500 and in the log, never the end of the
/// server.
asio::awaitable<reply> run_guarded(handler run, exchange& x, std::string_view request_id) {
  try {
    co_return co_await run(x);
  } catch (...) {
    co_return reply{tell_defect(request_id)};
  }
}

} // namespace

asio::awaitable<void> session::run() {
  auto self = shared_from_this();
  auto arrived = co_await connection_.begin();
  if (arrived == connection::arrival::request) {
    arrived = co_await connection_.read_request();
  }
  while (arrived != connection::arrival::closed) {
    bool goes_on = co_await serve_one(arrived);
    if (!goes_on) {
      break;
    }
    arrived = co_await connection_.read_request();
  }
  connection_.close();
}

asio::awaitable<bool> session::serve_one(connection::arrival arrived) {
  auto begun = std::chrono::steady_clock::now();
  connection::written result;
  std::string project;
  std::string path;
  route_ = nullptr;
  cors_lines_.clear();
  has_head_ = arrived == connection::arrival::request;
  if (!has_head_) {
    request_id_ = make_request_id(++server_.requests);
    reply out{connection_.refused_because()};
    result = co_await connection_.write_reply(out, {request_id_, {}, true});
  } else {
    auto own_id = connection_.header("X-Request-Id");
    request_id_ = is_request_id(own_id) ? std::string{own_id} : make_request_id(++server_.requests);
    if (!from_.is_operator) {
      cors_lines_ = server_.cors.header_lines(connection_.header("Origin"));
    }
    auto target = parse_target(connection_.target());
    path = connection_.target().substr(0, connection_.target().find('?')).substr(0, 512);
    result = co_await answer_request(target, project);
  }
  auto spent = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - begun);
  server_.inside.metrics->request_answered(
      route_ ? route_->method : "other", route_ ? route_->pattern : "other", result.status, spent);
  log_request(path, result, project, spent);
  const bool goes_on = result.keep_alive && !server_.stopping;
  if (!goes_on && result.is_complete) {
    co_await connection_.linger();
  }
  co_return goes_on;
}

asio::awaitable<connection::written> session::write(reply& out) {
  return connection_.write_reply(out, {request_id_, cors_lines_, server_.stopping});
}

reply session::no_such_address(const route_match& match) const {
  if (match.allow.empty()) {
    return reply{not_found("no such address")};
  }
  if (is_preflight()) {
    return cors_policy::preflight(match.allow);
  }
  reply out{refusal{405, "this address answers " + match.allow}};
  out.headers.emplace_back("Allow", match.allow);
  return out;
}

/// A browser that asks before it sends a page's request; it has no token for this.
bool session::is_preflight() const {
  return server_.cors.is_on() && !from_.is_operator && connection_.method() == "OPTIONS" &&
         !connection_.header("Origin").empty() &&
         !connection_.header("Access-Control-Request-Method").empty();
}

asio::awaitable<connection::written> session::answer_request(const answer<request_target>& target,
                                                             std::string& project) {
  if (target.has_error()) {
    reply out{target.error()};
    co_return co_await write(out);
  }
  auto method = connection_.method();
  auto match = match_route(method, target->segments, {from_.is_operator, is_observer()});
  route_ = match.found;
  if (!match.found) {
    auto out = no_such_address(match);
    co_return co_await write(out);
  }
  caller who;
  if (match.found->open_to != audience::anyone && match.found->open_to != audience::observers) {
    auto identified = co_await identify(*target);
    if (identified.has_error() || !identified->may(match.found->needs)) {
      reply out{identified.has_error() ? identified.error() : insufficient(match.found->needs)};
      co_return co_await write(out);
    }
    who = std::move(*identified);
  }
  // Lives until the reply is written: a streamed body reads through it.
  exchange x{server_,     method == "HEAD",        *target,        connection_,
             connection_, std::move(match.params), std::move(who), {},
             {}};
  auto out = co_await run_guarded(match.found->run, x, request_id_);
  project = x.who.project;
  co_return co_await write(out);
}

bool session::is_observer() const {
  const auto& open_to = server_.inside.config.metrics.open_to;
  if (from_.is_operator || open_to == "anyone") {
    return true;
  }
  if (open_to != "loopback" || !from_.address.is_loopback()) {
    return false;
  }
  // A proxy on this machine asks for somebody else.
  for (const auto* name : {"Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"}) {
    if (!connection_.header(name).empty()) {
      return false;
    }
  }
  return true;
}

asio::awaitable<answer<caller>> session::identify(const request_target& target) {
  if (!from_.is_operator) {
    co_return co_await identify_token(server_, connection_.header("Authorization"));
  }
  auto header = connection_.header("Project");
  co_return identify_operator(
      target.query.find("project").value_or(header.empty() ? "default" : header));
}

/// For the log: who asks, seen past proxies that are trusted.
std::string session::client_text() const {
  if (from_.is_operator) {
    return "admin";
  }
  auto forwarded = has_head_ && !server_.trusted_proxies.is_empty()
                       ? connection_.last_header("X-Forwarded-For")
                       : std::string_view{};
  return original_client(server_.trusted_proxies, from_.address, forwarded).to_string();
}

void session::log_request(std::string_view path, const connection::written& result,
                          std::string_view project, std::chrono::microseconds spent) const {
  log::info("request", "request", request_id_, "client", client_text(), "method",
            has_head_ ? connection_.method() : std::string_view{"-"}, "path", path, "status",
            result.status, "bytes", result.bytes, "duration_us", spent.count(), "complete",
            result.is_complete ? "yes" : "no", "project", project);
}

} // namespace coppice::gateway
