#pragma once

#include "gateway/http/refusal.hpp"
#include "gateway/http/target.hpp"
#include "protocol/uuid.hpp"

#include <boost/asio/awaitable.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Requests and replies as the routes see them: no sockets, no parser.
namespace coppice::gateway {

namespace asio = boost::asio;

class file_sender;

/// Bytes of a file in the store.
struct file_range {
  uuid file; ///< the image whose sealed file it is; nil: zeros
  std::uint64_t offset_bytes = 0;
  std::uint64_t bytes = 0;
};

/// Bytes, then the range.
struct body_part {
  std::string bytes;
  file_range range;
};

/// What a body is made of: bytes, or parts that a sender knows how to send.
struct body_piece {
  std::string bytes;
  std::vector<body_part> parts; ///< instead of bytes
  file_sender* sender = nullptr;

  std::uint64_t size() const;
  bool empty() const {
    return bytes.empty() && parts.empty();
  }
};

/// Pieces of a reply's body, made when the client has taken the one before.
class body_source {
public:
  virtual ~body_source() = default;
  /// The next piece, at most about a megabyte; empty at the end.
  virtual asio::awaitable<answer<std::string>> next() = 0;

  enum class cancel_reason {
    client_gone, ///< it sends no more: mostly, nobody reads what comes from now on
    stopping     ///< the server stops; the client is still there and is sent what comes
  };
  /// The rest is not wanted. Only live streams are told so, on the connection's thread, any number
  /// of times, mostly while a `next` waits: that one and those after it must come to the end
  /// without waiting for anything outside: by a failure where the client has gone before the body
  /// was whole, so that it does not look so. When the server stops they may give a few last words
  /// before the empty piece.
  virtual void cancel(cancel_reason) {}
  /// The same, where the connection can send stored files by itself. Calls of one body are all of
  /// one kind.
  virtual asio::awaitable<answer<body_piece>> next_piece();
};

/// The header fields of the request.
class request_header {
public:
  virtual ~request_header() = default;
  /// Empty when absent; of several the first. Names in any case.
  virtual std::string_view header(std::string_view name) const = 0;
};

/// The body of the request, as it arrives.
class body_reader {
public:
  virtual ~body_reader() = default;
  /// Announced bytes; none when it comes chunked.
  virtual std::optional<std::uint64_t> length() const = 0;
  /// Fills a piece of `bytes_max`, less only at the end; empty when all was read.
  virtual asio::awaitable<answer<std::string>> next(std::size_t bytes_max) = 0;
};

struct reply {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;                    ///< the whole body, or
  std::unique_ptr<body_source> stream; ///< where it comes from
  std::optional<std::uint64_t> length; ///< of the stream, or of a body that HEAD leaves out
  bool is_live = false;                ///< each piece goes out when it is made

  reply() = default;
  reply(unsigned code, std::string json) : status{code}, body{std::move(json)} {}
  /// The error body of the contract, with Allow, Retry-After and the like where they belong.
  reply(const refusal& r); // NOLINT(google-explicit-constructor): a refusal is a reply
};

/// 3xx to a relative address.
reply redirect(unsigned status, std::string location);

} // namespace coppice::gateway
