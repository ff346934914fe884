#include "gateway/http/connection.hpp"

#include <boost/asio/error.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/field.hpp>

#include <algorithm>
#include <array>
#include <utility>

// Reading requests; connection_reply.cpp writes what they are answered.

namespace coppice::gateway {
namespace {

using clock = transport::clock;

/// Most requests fit; beside the limits of a head it is what a body is received in.
constexpr std::size_t head_read_bytes = 4u << 10;
constexpr std::size_t body_read_bytes = 64u << 10;

/// Old clients send an empty line after a body, which RFC 9112 wants to be overlooked.
constexpr int blank_lines_max = 2;

constexpr std::chrono::seconds linger_time{5};

head_limits limits_of(const settings& config) {
  return {config.http.request_line_bytes_max, config.http.headers_bytes_max,
          config.http.headers_max};
}

std::size_t buffer_bytes_max(const settings& config) {
  return std::max<std::size_t>(body_read_bytes, config.http.request_line_bytes_max +
                                                    config.http.headers_bytes_max +
                                                    head_read_bytes);
}

} // namespace

connection::connection(stream_socket socket, tls_context tls, context& server)
    : server_{server}, transport_{std::move(socket), std::move(tls)}, buffer_{buffer_bytes_max(
                                                                          server.inside.config)} {
  // nop
}

asio::awaitable<connection::arrival> connection::begin() {
  auto error = co_await transport_.begin(clock::now() + server_.inside.config.http.header_timeout);
  if (error && transport_.become_plain(error)) {
    co_return refuse(bad_request("this port speaks TLS: use https:// instead of http://"));
  }
  co_return error ? arrival::closed : arrival::request;
}

std::string_view connection::method() const {
  auto text = head_.method_string();
  return {text.data(), text.size()};
}

std::string_view connection::target() const {
  auto text = head_.target();
  return {text.data(), text.size()};
}

std::string_view connection::header(std::string_view name) const {
  auto value = head_[beast::string_view{name.data(), name.size()}];
  return {value.data(), value.size()};
}

std::string_view connection::last_header(std::string_view name) const {
  std::string_view out;
  auto [first, end] = head_.equal_range(beast::string_view{name.data(), name.size()});
  for (; first != end; ++first) {
    out = {first->value().data(), first->value().size()};
  }
  return out;
}

std::string_view connection::received() const {
  auto bytes = buffer_.cdata();
  return {static_cast<const char*>(bytes.data()), bytes.size()};
}

asio::awaitable<error_code> connection::receive_more(std::size_t bytes,
                                                     clock::time_point deadline) {
  auto room = std::min(bytes, buffer_.max_size() - buffer_.size());
  auto moved = co_await transport_.receive(buffer_.prepare(room), deadline);
  buffer_.commit(moved.bytes);
  co_return moved.error;
}

connection::arrival connection::refuse(refusal why) {
  is_broken_ = true;
  refused_because_ = std::move(why);
  return arrival::refused;
}

bool connection::has_request() const {
  return parser_ && parser_->is_header_done();
}

/// Nothing of a request is here: thousands of connections wait so. The first bytes of the next.
asio::awaitable<error_code> connection::wait_idle(clock::time_point deadline) {
  is_idle_ = true;
  head_.clear();
  buffer_.clear();
  buffer_.shrink_to_fit();
  if (!transport_.is_encrypted()) {
    auto error = co_await transport_.wait_readable(deadline);
    if (error) {
      co_return error;
    }
  }
  auto error = co_await receive_more(head_read_bytes, deadline);
  is_idle_ = false;
  co_return error;
}

asio::awaitable<connection::arrival> connection::read_request() {
  const auto& config = server_.inside.config;
  parser_.reset();
  receive_pace_.reset();
  must_continue_ = false;
  is_broken_ = false;
  const auto idle_deadline = clock::now() + config.http.idle_timeout;
  auto header_deadline = clock::now() + config.http.header_timeout;
  is_idle_ = false;
  head_scanner scanner{limits_of(config)};
  for (int blank_lines = 0;;) {
    while (blank_lines < blank_lines_max && received().starts_with("\r\n")) {
      buffer_.consume(2);
      ++blank_lines;
    }
    if (buffer_.size() == 0) {
      auto error = co_await wait_idle(idle_deadline);
      if (error) {
        co_return arrival::closed;
      }
      header_deadline = clock::now() + config.http.header_timeout;
      continue;
    }
    auto progress = scanner.scan(received());
    if (progress.refused) {
      co_return refuse(std::move(*progress.refused));
    }
    if (progress.head_bytes) {
      auto wrong = take_head(*progress.head_bytes);
      if (wrong) {
        co_return refuse(std::move(*wrong));
      }
      co_return arrival::request;
    }
    auto error = co_await receive_more(head_read_bytes, header_deadline);
    if (error == asio::error::timed_out) {
      co_return refuse({408, "the request's header took longer than http.header_timeout"});
    }
    if (error) {
      co_return arrival::closed;
    }
  }
}

/// Lets Beast's parser have what has passed our own checks.
std::optional<refusal> connection::take_head(std::size_t head_bytes) {
  is_idle_ = false;
  if (auto wrong = check_head(received().substr(0, head_bytes))) {
    return wrong;
  }
  const auto& config = server_.inside.config;
  parser_.emplace();
  parser_->header_limit(static_cast<std::uint32_t>(buffer_bytes_max(config)));
  parser_->body_limit(boost::none); // each route has its own
  beast::error_code error;
  buffer_.consume(parser_->put(asio::buffer(buffer_.cdata(), head_bytes), error));
  if (error || !parser_->is_header_done()) {
    return bad_request("malformed HTTP request: " + error.message());
  }
  // Out of the parser's reach, which adds what follows a body in chunks to the fields it has.
  head_ = std::move(parser_->get().base());
  receive_pace_.emplace(config.http.stall_timeout, config.http.rate_bytes_min);
  must_continue_ =
      !parser_->is_done() && head_.version() >= 11 && !head_[http::field::expect].empty();
  return std::nullopt;
}

std::optional<std::uint64_t> connection::length() const {
  auto length = parser_->content_length();
  return length ? std::optional<std::uint64_t>{*length} : std::nullopt;
}

/// More bytes of the body than there are in the buffer.
asio::awaitable<std::optional<refusal>> connection::receive_body() {
  if (buffer_.size() == buffer_.max_size()) {
    co_return bad_request("the body could not be read: a chunk's first line, or what follows the "
                          "last chunk, is too large");
  }
  auto before = buffer_.size();
  auto error = co_await receive_more(body_read_bytes, receive_pace_->deadline(clock::now()));
  receive_pace_->moved(clock::now(), buffer_.size() - before);
  if (error == asio::error::timed_out) {
    co_return refusal{408, "the body came more slowly than http.rate_bytes_min"};
  }
  if (error) {
    co_return bad_request("the body ended before its end: " + error.message());
  }
  co_return std::nullopt;
}

asio::awaitable<answer<std::string>> connection::next(std::size_t bytes_max) {
  std::string out;
  if (parser_->is_done()) {
    co_return out;
  }
  if (is_broken_) {
    co_return bad_request("the body could not be read");
  }
  if (std::exchange(must_continue_, false)) {
    send_pace_.emplace(server_.inside.config.http.stall_timeout,
                       server_.inside.config.http.rate_bytes_min);
    if (!co_await send("HTTP/1.1 100 Continue\r\n\r\n", {}, {})) {
      is_broken_ = true;
      co_return bad_request("the connection broke");
    }
  }
  out.resize(bytes_max);
  std::size_t filled = 0;
  while (filled < bytes_max && !parser_->is_done()) {
    auto& body = parser_->get().body();
    body.data = out.data() + filled;
    body.size = bytes_max - filled;
    beast::error_code error = http::error::need_more;
    if (buffer_.size() > 0) {
      buffer_.consume(parser_->put(buffer_.cdata(), error));
      filled = bytes_max - body.size;
    }
    if (error == http::error::need_more) {
      auto broken = co_await receive_body();
      if (broken) {
        is_broken_ = true;
        co_return std::move(*broken);
      }
    } else if (error && error != http::error::need_buffer) {
      is_broken_ = true;
      co_return bad_request("the body could not be read: " + error.message());
    }
  }
  out.resize(filled);
  co_return out;
}

asio::awaitable<bool> connection::discard_body() {
  bool is_hopeless = false;
  for (std::uint64_t total = 0; !is_hopeless && !parser_->is_done();) {
    auto piece = co_await next(discard_bytes_max / 4);
    total += piece ? piece->size() : 0;
    is_hopeless = piece.has_error() || total > discard_bytes_max;
  }
  co_return !is_hopeless;
}

asio::awaitable<void> connection::linger() {
  is_idle_ = true;
  auto deadline = clock::now() + linger_time;
  co_await transport_.end_sending(deadline);
  std::array<char, 4096> scratch{};
  while (clock::now() < deadline) { // a deadline ends only waits, and this one may send for ever
    auto moved = co_await transport_.receive(asio::buffer(scratch), deadline);
    if (moved.error) {
      co_return;
    }
  }
}

void connection::wind_down() {
  if (is_idle_) {
    close();
  } else if (live_) {
    live_->cancel(body_source::cancel_reason::stopping);
  }
}

void connection::close() {
  transport_.close();
}

} // namespace coppice::gateway
