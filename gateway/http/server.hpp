#pragma once

#include "actors/settings.hpp"
#include "gateway/gateway.hpp"
#include "protocol/result.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace coppice::gateway {

/// Where the server listens; the limits come from the settings.
struct http_options {
  std::string listen;                 ///< HOST:PORT, port 0 takes a free one; empty: no TCP
  std::filesystem::path admin_socket; ///< unix socket for the operator; empty: none

  static http_options from(const settings& config) {
    return {config.http.listen, config.admin_socket_path()};
  }
};

/// The HTTP door.
///
/// Problem: clients are slow, hostile or gone; the inside is actors that must not wait for them.
/// One thread runs all connections as coroutines; each connection answers its requests in order,
/// holds a bounded piece of any body, and asks the inside through a `door`.
/// Guarantee: no wait on a client is without limit; at most `connections_max` connections, of these
/// `connections_address_max` from one address; on the admin socket only root and the server's own
/// user are heard, without a token.
/// Owner: the daemon's main, which stops it before the actors.
class http_server {
public:
  /// Listens and serves. The failure names the address.
  static result<std::unique_ptr<http_server>> start(http_options options, services inside);

  /// Stops.
  ~http_server();
  http_server(const http_server&) = delete;
  http_server& operator=(const http_server&) = delete;

  /// The TCP port; 0 without TCP.
  std::uint16_t port() const;

  /// Reads the certificate and its key again, for connections that come from now on. A failure says
  /// what is wrong with them and leaves the ones in use. Any thread.
  result<void> reload_tls();

  /// Before `stop`: accepts no more from clients, lets go who waits for nothing, ends live streams,
  /// and answers what is under way, for at most `limit`. The admin socket is still heard. Gives how
  /// many connections were still busy then.
  std::size_t drain(std::chrono::milliseconds limit);

  /// Accepts no more; what is under way is answered (503 where it needs the inside) or cut after a
  /// short grace. Blocks until all is over. A second call does nothing.
  void stop();

private:
  struct impl;
  explicit http_server(std::unique_ptr<impl> state);
  std::unique_ptr<impl> impl_;
};

} // namespace coppice::gateway
