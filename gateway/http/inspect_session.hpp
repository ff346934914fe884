#pragma once

#include "gateway/http/exchange.hpp"
#include "protocol/inspect.capnp.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace coppice::gateway {

/// One path of an image being read. Closed at the end of its life, whoever broke off.
class inspect_session {
public:
  /// not_found, wrong_type, damaged, busy.
  static asio::awaitable<answer<std::unique_ptr<inspect_session>>>
  open(exchange& x, uuid image, proto::InspectVerb verb, std::string path);
  /// The same, for orders that say more: `fill` adds to them.
  using fill_order = std::function<void(proto::InspectOpen::Builder)>;
  static asio::awaitable<answer<std::unique_ptr<inspect_session>>>
  open(exchange& x, uuid image, proto::InspectVerb verb, std::string path, fill_order fill);

  inspect_session(exchange& x, uuid image, std::uint64_t number, std::uint64_t size_bytes)
      : exchange_{x}, image_{image}, number_{number}, size_bytes_{size_bytes} {}
  ~inspect_session();
  inspect_session(const inspect_session&) = delete;
  inspect_session& operator=(const inspect_session&) = delete;

  std::uint64_t size_bytes() const {
    return size_bytes_;
  }
  bool has_ended() const {
    return has_ended_;
  }
  /// The next piece; after the last one the session must not be asked again. Of content that is
  /// told by where it lies, the more the faster the pieces before were used up: a piece that takes
  /// its client longer than the session waits would end it.
  asio::awaitable<answer<frame<proto::InspectChunk>>> next();

private:
  using clock = std::chrono::steady_clock;
  /// Nobody knows yet how fast the client is.
  static constexpr std::uint64_t content_bytes_min = 256u << 10;
  void adapt();

  exchange& exchange_;
  uuid image_;
  std::uint64_t number_;
  std::uint64_t size_bytes_;
  bool has_ended_ = false;
  std::uint64_t content_bytes_ = content_bytes_min;
  std::optional<clock::time_point> given_; ///< the piece before
};

} // namespace coppice::gateway
