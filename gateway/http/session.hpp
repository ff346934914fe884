#pragma once

#include "gateway/http/client_address.hpp"
#include "gateway/http/connection.hpp"
#include "gateway/http/context.hpp"
#include "gateway/http/router.hpp"

#include <memory>
#include <string>

namespace coppice::gateway {

/// The other end of a connection.
struct peer {
  ip_address address;       ///< unspecified on the admin socket
  bool is_operator = false; ///< came over the admin socket
};

/// One client: takes its requests in order, lets a route answer each, writes a line to the log.
/// Owner: the server's list of sessions and its own coroutine; lives on the server's thread.
class session : public std::enable_shared_from_this<session> {
public:
  session(context& server, stream_socket socket, peer from)
      : server_{server}, connection_{std::move(socket), from.is_operator ? nullptr : server.tls,
                                     server},
        from_{from} {}

  /// Until the client goes, breaks the rules or the server stops.
  asio::awaitable<void> run();

  /// The server stops: a client that waits for nothing is let go at once, the others after the
  /// reply under way.
  void wind_down() {
    connection_.wind_down();
  }

  void look_at_clock(transport::clock::time_point now) {
    connection_.look_at_clock(now);
  }

  void close() {
    connection_.close();
  }

  const peer& from() const {
    return from_;
  }

private:
  asio::awaitable<bool> serve_one(connection::arrival arrived);
  asio::awaitable<connection::written> answer_request(const answer<request_target>& target,
                                                      std::string& project);
  asio::awaitable<connection::written> write(reply& out);
  asio::awaitable<answer<caller>> identify(const request_target& target);
  reply no_such_address(const route_match& match) const;
  bool is_preflight() const;
  /// Who may see the node's numbers without a token.
  bool is_observer() const;
  std::string client_text() const;
  void log_request(std::string_view path, const connection::written& result,
                   std::string_view project, std::chrono::microseconds spent) const;

  context& server_;
  connection connection_;
  peer from_;
  std::string request_id_;
  std::string cors_lines_;       ///< of every reply to the request under way
  const route* route_ = nullptr; ///< of the request under way
  bool has_head_ = false;        ///< the request under way has one that could be read
};

} // namespace coppice::gateway
