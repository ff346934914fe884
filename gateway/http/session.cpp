#include "gateway/http/session.hpp"

#include "actors/log.hpp"
#include "gateway/http/routes.hpp"

#include <kj/exception.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <exception>

namespace coppice::gateway {
namespace {

/// Runs a route; an exception is our defect, told as 500 and in the log, never the end of the
/// server.
asio::awaitable<reply> run_guarded(handler run, exchange& x, std::string_view request_id) {
  std::string defect;
  try {
    co_return co_await run(x);
  } catch (const kj::Exception& e) {
    defect = e.getDescription().cStr();
  } catch (const std::exception& e) {
    defect = e.what();
  }
  log::error("a request met a defect", "request", request_id, "reason", defect);
  co_return reply{refusal{500, "internal error; the server's log has it under request " +
                                   std::string{request_id}}};
}

std::string make_request_id(std::uint64_t number) {
  static const auto start = uuid::random();
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%08x-%llx", static_cast<unsigned>(start.hi),
                static_cast<unsigned long long>(number));
  return text.data();
}

} // namespace

asio::awaitable<void> session::run() {
  auto self = shared_from_this();
  while (co_await serve_one()) {
    // nop
  }
  connection_.close();
}

void session::wind_down() {
  if (connection_.is_idle()) {
    connection_.close();
  }
}

asio::awaitable<bool> session::serve_one() {
  auto arrived = co_await connection_.read_request();
  if (arrived == connection::arrival::closed) {
    co_return false;
  }
  auto begun = std::chrono::steady_clock::now();
  request_id_ = make_request_id(++server_.requests);
  connection::written result;
  std::string project;
  std::string path;
  route_ = nullptr;
  if (arrived == connection::arrival::refused) {
    reply out{connection_.refused_because()};
    result = co_await connection_.write_reply(out, request_id_, true);
  } else {
    auto target = parse_target(connection_.target());
    path = connection_.target().substr(0, connection_.target().find('?')).substr(0, 512);
    result = co_await answer_request(target, project);
  }
  auto spent = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - begun);
  server_.inside.metrics->request_answered(
      route_ ? route_->method : "other", route_ ? route_->pattern : "other", result.status, spent);
  log_request(path, result, project, spent);
  if (!result.keep_alive && result.is_complete) {
    co_await connection_.linger();
  }
  co_return result.keep_alive && !server_.stopping;
}

asio::awaitable<connection::written> session::answer_request(const answer<request_target>& target,
                                                             std::string& project) {
  if (target.has_error()) {
    reply out{target.error()};
    co_return co_await connection_.write_reply(out, request_id_, server_.stopping);
  }
  auto method = connection_.method();
  auto match = match_route(method, target->segments, {is_operator_, is_observer()});
  route_ = match.found;
  if (!match.found) {
    reply out{not_found("no such address")};
    if (!match.allow.empty()) {
      out = reply{refusal{405, "this address answers " + match.allow}};
      out.headers.emplace_back("Allow", match.allow);
    }
    co_return co_await connection_.write_reply(out, request_id_, server_.stopping);
  }
  caller who;
  if (match.found->open_to != audience::anyone && match.found->open_to != audience::observers) {
    auto identified = co_await identify(*target);
    if (identified.has_error() || !identified->may(match.found->needs)) {
      reply out{identified.has_error() ? identified.error() : insufficient(match.found->needs)};
      co_return co_await connection_.write_reply(out, request_id_, server_.stopping);
    }
    who = std::move(*identified);
  }
  // Lives until the reply is written: a streamed body reads through it.
  exchange x{
      server_, method == "HEAD", *target, connection_, std::move(match.params), std::move(who), {}};
  auto out = co_await run_guarded(match.found->run, x, request_id_);
  project = x.who.project;
  co_return co_await connection_.write_reply(out, request_id_, server_.stopping);
}

bool session::is_observer() const {
  const auto& open_to = server_.inside.config.metrics.open_to;
  if (is_operator_ || open_to == "anyone") {
    return true;
  }
  if (open_to != "loopback" || !connection_.is_from_loopback()) {
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
  if (!is_operator_) {
    co_return co_await identify_token(server_, connection_.header("Authorization"));
  }
  auto header = connection_.header("Project");
  co_return identify_operator(
      target.query.find("project").value_or(header.empty() ? "default" : header));
}

void session::log_request(std::string_view path, const connection::written& result,
                          std::string_view project, std::chrono::microseconds spent) const {
  log::info("request", "request", request_id_, "method",
            path.empty() ? std::string_view{"-"} : connection_.method(), "path", path, "status",
            result.status, "bytes", result.bytes, "duration_us", spent.count(), "complete",
            result.is_complete ? "yes" : "no", "project", project);
}

} // namespace coppice::gateway
