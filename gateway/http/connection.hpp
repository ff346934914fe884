#pragma once

#include "actors/settings.hpp"
#include "gateway/http/context.hpp"
#include "gateway/http/gzip.hpp"
#include "gateway/http/message.hpp"
#include "gateway/http/pace.hpp"
#include "gateway/http/request_head.hpp"
#include "gateway/http/transport.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace coppice::gateway {

namespace beast = boost::beast;
namespace http = boost::beast::http;

/// What a reply is sent with, beside itself.
struct reply_terms {
  std::string_view request_id;
  std::string_view header_lines; ///< whole lines, for every reply to this request
  bool is_last = false;          ///< no other request is taken after it
};

/// HTTP/1.1 on one transport: reads one request at a time, hands its body out in pieces, writes one
/// reply at a time, compressed where the client asked for it.
///
/// Guarantee: holds at most a header and one piece of a body each way, and nothing of these between
/// requests; each wait on the client ends by its own limit; a request that has more than one
/// meaning is refused; a body that nobody read never becomes the next request. Owner: one
/// coroutine.
class connection : public body_reader, public request_header {
public:
  /// `tls`: null for plain bytes.
  connection(stream_socket socket, tls_context tls, context& server);

  /// What came instead of a request.
  enum class arrival {
    request,
    closed, ///< by the client, by a time-out or by `close`
    refused ///< it is no HTTP: `refused_because` says why, and nothing more can be read
  };

  /// The TLS handshake where there is one. `request`: requests can be read.
  asio::awaitable<arrival> begin();

  /// Waits for the next request and reads its header.
  asio::awaitable<arrival> read_request();

  const refusal& refused_because() const {
    return refused_because_;
  }

  std::string_view method() const;
  std::string_view target() const;
  std::string_view header(std::string_view name) const override;
  /// The last of that name, which the nearest proxy has written.
  std::string_view last_header(std::string_view name) const;

  // -- body_reader -------------------------------------------------------------------------------

  std::optional<std::uint64_t> length() const override;
  asio::awaitable<answer<std::string>> next(std::size_t bytes_max) override;

  // -- writing -----------------------------------------------------------------------------------

  struct written {
    unsigned status = 0;      ///< as sent: a body may fail before its first piece
    std::uint64_t bytes = 0;  ///< of the body, as sent
    bool is_complete = false; ///< false: the client saw the connection break
    bool keep_alive = false;
  };

  asio::awaitable<written> write_reply(reply& out, reply_terms terms);

  /// After a last reply: lets the client read it before the socket goes. Closing a socket with
  /// unread input would make the kernel throw the reply away.
  asio::awaitable<void> linger();

  // -- from outside of the coroutine -------------------------------------------------------------

  /// The server stops: a client that waits for nothing is let go, a live reply comes to its end.
  void wind_down();
  void look_at_clock(transport::clock::time_point now) {
    transport_.look_at_clock(now);
  }
  void close();

private:
  struct body_plan;
  class live_reply;

  /// The rest of a body that nobody wanted is read up to here to keep the connection.
  static constexpr std::uint64_t discard_bytes_max = 64u << 10;

  std::string_view received() const;
  std::optional<refusal> take_head(std::size_t head_bytes);
  arrival refuse(refusal why);
  asio::awaitable<error_code> wait_idle(transport::clock::time_point deadline);
  asio::awaitable<error_code> receive_more(std::size_t bytes,
                                           transport::clock::time_point deadline);
  asio::awaitable<std::optional<refusal>> receive_body();
  asio::awaitable<bool> discard_body();

  asio::awaitable<bool> send(std::string_view first, std::string_view second,
                             std::string_view third);
  asio::awaitable<void> write_body(reply& out, std::string head, body_plan& plan, written& result);
  asio::awaitable<bool> write_piece(std::string& head, std::string_view piece, body_plan& plan,
                                    written& result);
  asio::awaitable<bool> write_parts(std::string& head, body_piece& piece, const body_plan& plan,
                                    written& result);
  asio::awaitable<bool> write_compressed(std::string& head, std::string_view piece, body_plan& plan,
                                         written& result);
  bool takes_parts(const reply& out) const;
  static asio::awaitable<answer<body_piece>> next_of(reply& out, const body_plan& plan);
  asio::awaitable<std::optional<refusal>> gather(reply& out, body_plan& plan);
  void plan_compression(const reply& out, body_plan& plan);
  std::string head_text(const reply& out, reply_terms terms, const body_plan& plan,
                        bool keep_alive) const;
  bool has_request() const;

  context& server_;
  transport transport_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::buffer_body>> parser_; ///< none between requests
  http::header<true> head_;                                       ///< of the request under way
  std::optional<pace> receive_pace_;                              ///< of the body under way
  std::optional<pace> send_pace_;                                 ///< of the reply under way
  body_source* live_ = nullptr;                                   ///< of the reply under way
  refusal refused_because_;
  bool is_idle_ = true;
  bool must_continue_ = false; ///< the client waits for 100 before it sends the body
  bool is_broken_ = false;     ///< the body could not be read to its end
};

} // namespace coppice::gateway
