#include "gateway/http/message.hpp"

#include "gateway/http/json_text.hpp"

namespace coppice::gateway {

std::uint64_t body_piece::size() const {
  std::uint64_t out = bytes.size();
  for (const auto& part : parts) {
    out += part.bytes.size() + part.range.bytes;
  }
  return out;
}

asio::awaitable<answer<body_piece>> body_source::next_piece() {
  auto bytes = co_await next();
  if (bytes.has_error()) {
    co_return bytes.error();
  }
  body_piece out;
  out.bytes = std::move(*bytes);
  co_return out;
}

reply::reply(const refusal& r) : status{r.status} {
  json_writer json;
  json.begin_object();
  json.member("error", r.text);
  json.member("status", r.status);
  json.end_object();
  body = json.take();
  if (status == 425 || status == 429 || status == 503) {
    headers.emplace_back("Retry-After", "1");
  }
  if (status == 401) {
    headers.emplace_back("WWW-Authenticate", "Bearer");
  }
}

reply redirect(unsigned status, std::string location) {
  reply out;
  out.status = status;
  out.headers.emplace_back("Location", std::move(location));
  return out;
}

} // namespace coppice::gateway
