#include "gateway/http/exchange.hpp"

#include "gateway/http/json_fields.hpp"
#include "gateway/http/request_key.hpp"
#include "protocol/time_text.hpp"

#include <charconv>
#include <chrono>

namespace coppice::gateway {
namespace {

/// Bodies up to this size are read without asking the budget.
constexpr std::size_t small_body_bytes = 64u << 10;

} // namespace

std::optional<std::uint64_t> parse_count(std::string_view text) {
  std::uint64_t value = 0;
  auto end = text.data() + text.size();
  auto [stopped, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || error != std::errc{} || stopped != end) {
    return std::nullopt;
  }
  return value;
}

asio::awaitable<answer<boost::json::object>> exchange::read_json() {
  auto bytes_max = config().http.json_body_bytes_max;
  refusal too_large{413, "the body is larger than " + std::to_string(bytes_max) + " bytes"};
  const refusal too_many{429, "too many large requests at once"};
  if (body.length().value_or(0) > bytes_max) {
    co_return too_large;
  }
  memory = memory_budget::lease{server.json_memory};
  std::string text;
  for (;;) {
    auto piece = co_await body.next(small_body_bytes);
    if (piece.has_error()) {
      co_return piece.error();
    }
    if (piece->empty()) {
      break;
    }
    text += *piece;
    if (text.size() > bytes_max) {
      co_return too_large;
    }
    if (text.size() > small_body_bytes && !memory.extend(piece->size())) {
      co_return too_many;
    }
  }
  const auto values = count_json_values(text);
  if (values > json_values_max) {
    co_return refusal{413,
                      "the body holds more than " + std::to_string(json_values_max) + " values"};
  }
  if (text.size() > small_body_bytes && !memory.extend(values * json_value_bytes)) {
    co_return too_many;
  }
  if (!fields.header(idempotency_header).empty()) {
    body_sha256 = sha256_of(text);
  }
  co_return parse_json_object(text);
}

answer<page_query> parse_page(const query_map& query) {
  page_query page;
  if (auto text = query.find("limit")) {
    auto limit = parse_count(*text);
    if (!limit || *limit < 1 || *limit > 1000) {
      return bad_request("limit must be between 1 and 1000");
    }
    page.limit = static_cast<std::uint32_t>(*limit);
  }
  if (auto text = query.find("offset")) {
    auto offset = parse_count(*text);
    if (!offset) {
      return bad_request("offset must be a whole number that is not negative");
    }
    page.offset = *offset;
  }
  auto now = unix_now_ns();
  auto bound = [&](std::string_view name, std::int64_t& out) {
    auto text = query.find(name);
    if (!text || text->empty()) {
      return true;
    }
    auto time = parse_time_bound(*text, now);
    out = time.value_or(out);
    return time.has_value();
  };
  if (!bound("since", page.since_unix_ns)) {
    return bad_request("since must be a date, Unix seconds or an interval like 15m");
  }
  if (!bound("until", page.until_unix_ns)) {
    return bad_request("until must be a date, Unix seconds or an interval like 15m");
  }
  return page;
}

answer<std::uint64_t> parse_number(const query_map& query, std::string_view name,
                                   std::uint64_t fallback, std::uint64_t most) {
  auto text = query.find(name);
  if (!text || text->empty()) {
    return fallback;
  }
  auto number = parse_count(*text);
  if (!number || *number > most) {
    return bad_request(std::string{name} + " must be a whole number between 0 and " +
                       std::to_string(most));
  }
  return *number;
}

answer<uuid> parse_id(const std::string& text, std::string_view what) {
  auto id = uuid::parse(text);
  if (!id || !*id) {
    return not_found("no such " + std::string{what});
  }
  return *id;
}

std::int64_t unix_now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

} // namespace coppice::gateway
