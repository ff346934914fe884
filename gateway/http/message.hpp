#pragma once

#include "gateway/http/refusal.hpp"
#include "gateway/http/target.hpp"

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

/// Pieces of a reply's body, made when the client has taken the one before.
class body_source {
public:
  virtual ~body_source() = default;
  /// The next piece, at most about a megabyte; empty at the end.
  virtual asio::awaitable<answer<std::string>> next() = 0;
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

  reply() = default;
  reply(unsigned code, std::string json) : status{code}, body{std::move(json)} {}
  /// The error body of the contract, with Allow, Retry-After and the like where they belong.
  reply(const refusal& r); // NOLINT(google-explicit-constructor): a refusal is a reply
};

/// 3xx to a relative address.
reply redirect(unsigned status, std::string location);

} // namespace coppice::gateway
