#pragma once

#include "gateway/http/message.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace coppice::gateway {

namespace beast = boost::beast;
namespace http = boost::beast::http;

using stream_socket = asio::generic::stream_protocol::socket;

/// HTTP/1.1 on one socket: reads one request at a time, hands its body out in pieces, writes one
/// reply at a time.
///
/// Guarantee: holds at most a header and one piece of a body each way; no wait on the client is
/// longer than the idle time-out; a body that nobody read never becomes the next request.
/// Owner: one coroutine.
class connection : public body_reader {
public:
  connection(stream_socket socket, std::chrono::seconds idle_timeout);

  /// What came instead of a request.
  enum class arrival {
    request,
    closed, ///< by the client, by a time-out or by `close`
    refused ///< it is no HTTP: `refused_because` says why, and nothing more can be read
  };

  /// Waits for the next request and reads its header.
  asio::awaitable<arrival> read_request();

  /// Between requests: nothing is lost when the connection is closed now.
  bool is_idle() const {
    return is_idle_;
  }

  const refusal& refused_because() const {
    return refused_because_;
  }

  /// Over TCP from this machine.
  bool is_from_loopback() const {
    return is_from_loopback_;
  }

  std::string_view method() const;
  std::string_view target() const;
  /// Empty when absent.
  std::string_view header(std::string_view name) const;

  // -- body_reader -------------------------------------------------------------------------------

  std::optional<std::uint64_t> length() const override;
  asio::awaitable<answer<std::string>> next(std::size_t bytes_max) override;

  // -- writing -----------------------------------------------------------------------------------

  struct written {
    unsigned status = 0;      ///< as sent: a body may fail before its first piece
    std::uint64_t bytes = 0;  ///< of the body
    bool is_complete = false; ///< false: the client saw the connection break
    bool keep_alive = false;
  };

  /// Sends the reply. `last`: no other request is taken after it.
  asio::awaitable<written> write_reply(reply& out, std::string_view request_id, bool last);

  /// After a last reply: lets the client read it before the socket goes. Closing a socket with
  /// unread input would make the kernel throw the reply away.
  asio::awaitable<void> linger();

  void close();

private:
  struct body_plan;

  asio::awaitable<bool> discard_body();
  asio::awaitable<bool> send(std::string_view first, std::string_view second,
                             std::string_view third);
  asio::awaitable<void> write_body(reply& out, const std::string& head, body_plan& plan,
                                   written& result);
  asio::awaitable<std::optional<refusal>> gather(reply& out, body_plan& plan);
  std::string head_text(const reply& out, std::string_view request_id, const body_plan& plan,
                        bool keep_alive) const;

  beast::basic_stream<asio::generic::stream_protocol> stream_;
  std::chrono::seconds idle_timeout_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::buffer_body>> parser_;
  refusal refused_because_;
  bool is_from_loopback_ = false;
  bool is_idle_ = true;
  bool must_continue_ = false; ///< the client waits for 100 before it sends the body
  bool is_broken_ = false;     ///< the body could not be read to its end
};

} // namespace coppice::gateway
