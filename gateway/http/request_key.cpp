#include "gateway/http/request_key.hpp"

#include <openssl/sha.h>

#include <algorithm>
#include <array>

namespace coppice::gateway {
namespace {

constexpr std::size_t key_bytes_max = 255;

frame<proto::OperationRecord> operation_in(const frame<proto::FoundRequest>& found) {
  auto view = found.view();
  return copy_frame<proto::OperationRecord>(view->getOperation());
}

} // namespace

std::string sha256_of(std::string_view bytes) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

answer<request_key> key_of(const exchange& x, std::string_view body_sha256) {
  const auto given = x.fields.header(idempotency_header);
  if (given.empty()) {
    return request_key{};
  }
  const auto is_printable = [](char c) {
    return c >= ' ' && c <= '~';
  };
  if (given.size() > key_bytes_max || !std::all_of(given.begin(), given.end(), is_printable)) {
    return bad_request("Idempotency-Key must be 1 to " + std::to_string(key_bytes_max) +
                       " printable characters");
  }
  std::string request;
  for (const auto& segment : x.target.segments) {
    request += segment;
    request += '\0';
  }
  request += body_sha256;
  request_key key{sha256_of(given), sha256_of(request)};
  // What processes were sent is remembered here alone.
  if (x.server.process_keys.is_for_another(x.who.project, key.name, key.digest,
                                           process_keys::clock::now())) {
    return refusal{409, std::string{key_is_taken}};
  }
  return key;
}

asio::awaitable<answer<std::optional<frame<proto::OperationRecord>>>>
find_earlier(exchange& x, request_key key) {
  using nothing = std::optional<frame<proto::OperationRecord>>;
  if (key.name.empty()) {
    co_return nothing{};
  }
  auto request = make_frame<proto::FindRequest>([&](auto root) {
    root.setProject(x.who.project);
    key.to(root.initKey());
  });
  auto found = co_await x.read<proto::FoundRequest>(x.inside().catalog, std::move(request));
  if (found.has_error()) {
    if (found.error().status == 404) {
      co_return nothing{};
    }
    co_return found.error();
  }
  if (!found->view()->getSame() || !found->view()->hasOperation()) {
    co_return refusal{409, std::string{key_is_taken}};
  }
  co_return nothing{operation_in(*found)};
}

asio::awaitable<answer<frame<proto::OperationRecord>>>
start_once(exchange& x, frame<proto::StartOperation> request, request_key key) {
  auto started = co_await x.write<proto::OperationRecord>(x.inside().operations, request);
  if (started.has_value() || started.error().status != 409 || key.name.empty()) {
    co_return started;
  }
  // The same key came in between: it says by now what it was for.
  auto earlier = co_await find_earlier(x, key);
  if (earlier.has_error()) {
    co_return earlier.error();
  }
  if (!*earlier) {
    co_return started;
  }
  co_return std::move(**earlier);
}

} // namespace coppice::gateway
