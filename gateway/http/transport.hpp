#pragma once

#include "gateway/http/tls.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/system/error_code.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>

namespace coppice::gateway {

namespace asio = boost::asio;
using boost::system::error_code;
using stream_socket = asio::generic::stream_protocol::socket;

/// The bytes of one connection, plain or over TLS, with a deadline for every wait.
///
/// Problem: a timer for each wait of thousands of connections costs more than the waits. Here a
/// wait only notes its deadline, and the server looks at all of them a few times a second.
/// Guarantee: a wait ends at the latest one such look after its deadline, as timed_out. A client
/// that never lets us wait does not keep the thread: others get their turn now and then.
/// Owner: a connection; lives on the server's thread. One receive and one send at a time.
class transport {
public:
  using clock = std::chrono::steady_clock;

  /// `tls`: null for plain bytes.
  transport(stream_socket socket, tls_context tls);
  transport(const transport&) = delete;
  transport& operator=(const transport&) = delete;

  bool is_encrypted() const {
    return tls_ != nullptr;
  }

  /// For TLS the handshake; at once otherwise. Once, before anything else.
  asio::awaitable<error_code> begin(clock::time_point deadline);

  /// After a `begin` that failed with this: the client speaks plain HTTP, and is now spoken to so.
  bool become_plain(const error_code& error);

  /// Waits until something can be received or the client is gone, holding no buffer. Not over TLS,
  /// which may have received more than it was asked for.
  asio::awaitable<error_code> wait_readable(clock::time_point deadline);

  struct moved {
    error_code error; ///< end of file included
    std::size_t bytes = 0;
  };
  /// Some bytes, at least one unless there is an error.
  asio::awaitable<moved> receive(asio::mutable_buffer into, clock::time_point deadline);
  using pieces = std::array<asio::const_buffer, 3>;
  /// Some of the bytes of these, at least one unless there is an error.
  asio::awaitable<moved> send(pieces from, clock::time_point deadline);

  /// Calls back once when the client closes its end while nothing is received, at the latest when
  /// something fails to be sent. No more call after `unwatch`.
  void watch(std::function<void()> gone);
  void unwatch();

  /// No more is sent, and TLS says so; a plain client may still send.
  asio::awaitable<void> end_sending(clock::time_point deadline);
  /// Closing will tell the client that something is missing, where only the end tells it the end.
  void break_on_close();
  /// Every wait ends with an error, now and later.
  void close();
  /// Ends the wait whose deadline has passed.
  void look_at_clock(clock::time_point now);

  /// For what is sent past this class, when it is not encrypted.
  stream_socket& socket() {
    return socket_;
  }

private:
  struct watcher;
  /// Marks a wait; its end takes the mark away.
  class timed_wait;

  asio::awaitable<void> let_others_run();
  asio::awaitable<moved> receive_plain(asio::mutable_buffer into, clock::time_point deadline);
  asio::awaitable<moved> receive_tls(asio::mutable_buffer into, clock::time_point deadline);
  asio::awaitable<moved> send_tls(pieces from, clock::time_point deadline);
  asio::awaitable<moved> send_plain(pieces from, clock::time_point deadline);
  error_code why(error_code error) const;

  stream_socket socket_;
  tls_context tls_context_; ///< outlives its connections when it is replaced
  std::unique_ptr<asio::ssl::stream<stream_socket&>> tls_;
  clock::time_point deadline_ = clock::time_point::max();
  std::shared_ptr<watcher> watcher_;
  unsigned moves_ = 0;   ///< of plain bytes, since others had their turn
  bool is_late_ = false; ///< the deadline of a wait has passed
};

} // namespace coppice::gateway
