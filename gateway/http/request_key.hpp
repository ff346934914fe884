#pragma once

#include "gateway/http/exchange.hpp"

#include <functional>
#include <optional>
#include <string>
#include <string_view>

/// Requests that their clients can send again (Idempotency-Key): ours, not in the contract.
///
/// Problem: a client that lost the answer to a POST does not know whether it was carried out.
/// Guarantee: with the same key, address and body within a day the answer is the same and nothing
/// is done twice, also over a restart; the same key with anything else is refused with 409. What a
/// restart ends, the processes of runs, it also forgets the keys of (process_keys.hpp).
namespace coppice::gateway {

inline constexpr std::string_view idempotency_header = "Idempotency-Key";

/// SHA-256, as the catalog remembers it; an empty name: the client gave none.
struct request_key {
  std::string name;
  std::string digest;

  template <class Builder>
  void to(Builder root) const {
    auto data = [](const std::string& bytes) {
      return capnp::Data::Reader{reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()};
    };
    root.setKey(data(name));
    root.setDigest(data(digest));
  }
};

/// 32 bytes.
std::string sha256_of(std::string_view bytes);

/// The key of the request, whose body has the digest. 400: a key that is too long or has characters
/// that are not printable.
answer<request_key> key_of(const exchange& x, std::string_view body_sha256);

/// The operation that the same request has started before; nothing: it is new. 409: it was another
/// request.
asio::awaitable<answer<std::optional<frame<proto::OperationRecord>>>> find_earlier(exchange& x,
                                                                                   request_key key);

/// Starts an operation, or finds the one that the same request has started meanwhile.
asio::awaitable<answer<frame<proto::OperationRecord>>>
start_once(exchange& x, frame<proto::StartOperation> request, request_key key);

} // namespace coppice::gateway
