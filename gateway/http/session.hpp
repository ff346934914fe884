#pragma once

#include "gateway/http/connection.hpp"
#include "gateway/http/context.hpp"
#include "gateway/http/router.hpp"

#include <memory>
#include <string>

namespace coppice::gateway {

/// One client: takes its requests in order, lets a route answer each, writes a line to the log.
/// Owner: the server's list of sessions and its own coroutine; lives on the server's thread.
class session : public std::enable_shared_from_this<session> {
public:
  session(context& server, stream_socket socket, bool is_operator)
      : server_{server}, connection_{std::move(socket), server.inside.config.http.idle_timeout},
        is_operator_{is_operator} {}

  /// Until the client goes, breaks the rules or the server stops.
  asio::awaitable<void> run();

  /// The server stops: a client that waits for nothing is let go at once, the others after the
  /// reply under way.
  void wind_down();

  void close() {
    connection_.close();
  }

private:
  asio::awaitable<bool> serve_one();
  asio::awaitable<connection::written> answer_request(const answer<request_target>& target,
                                                      std::string& project);
  asio::awaitable<answer<caller>> identify(const request_target& target);
  /// Who may see the node's numbers without a token.
  bool is_observer() const;
  void log_request(std::string_view path, const connection::written& result,
                   std::string_view project, std::chrono::microseconds spent) const;

  context& server_;
  connection connection_;
  bool is_operator_;
  std::string request_id_;
  const route* route_ = nullptr; ///< of the request under way
};

} // namespace coppice::gateway
