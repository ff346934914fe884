#include "gateway/http/connection.hpp"

#include "gateway/http/status.hpp"

#include <boost/asio/ip/address_v4.hpp>
#include <boost/asio/ip/address_v6.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/field.hpp>
#include <boost/beast/http/read.hpp>

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>

namespace coppice::gateway {
namespace {

/// The longest header is a spawn client's with a long token and a long path; 16 KiB is what most
/// servers and proxies take.
constexpr std::uint32_t header_bytes_max = 16u << 10;
constexpr std::size_t read_buffer_bytes_max = 64u << 10;

/// The rest of a body that nobody wanted is read up to here to keep the connection.
constexpr std::uint64_t discard_bytes_max = 64u << 10;

/// Bodies up to this size carry their length: a client that refuses larger announced JSON exists.
constexpr std::size_t announced_bytes_max = 64u << 10;

constexpr std::chrono::seconds linger_time{5};

bool is_http_error(const beast::error_code& error) {
  return error.category() == http::make_error_code(http::error::bad_target).category();
}

std::string date_text() {
  auto now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 64> text{};
  auto size = std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return {text.data(), size};
}

bool is_loopback(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return asio::ip::address_v4{ntohl(v4.sin_addr.s_addr)}.is_loopback();
  }
  if (address.sa_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    asio::ip::address_v6::bytes_type bytes{};
    std::copy_n(v6.sin6_addr.s6_addr, bytes.size(), bytes.begin());
    const asio::ip::address_v6 whole{bytes};
    return whole.is_loopback() ||
           (whole.is_v4_mapped() &&
            asio::ip::make_address_v4(asio::ip::v4_mapped, whole).is_loopback());
  }
  return false;
}

void append_header(std::string& head, std::string_view name, std::string_view value) {
  head += name;
  head += ": ";
  head += value;
  head += "\r\n";
}

} // namespace

/// How the body of one reply travels.
struct connection::body_plan {
  enum class form {
    none,    ///< HEAD, 204: not at all
    sized,   ///< its length is announced
    chunked, ///< in chunks
    to_end   ///< until the connection closes: the client is too old for chunks
  };
  form how = form::sized;
  std::optional<std::uint64_t> length; ///< to announce
  std::string first;                   ///< of a stream, taken before the status was sent
  bool is_ended = true;                ///< the stream has no more than `first`
};

connection::connection(stream_socket socket, std::chrono::seconds idle_timeout)
    : stream_{std::move(socket)}, idle_timeout_{idle_timeout}, buffer_{read_buffer_bytes_max} {
  beast::error_code error;
  const auto peer = stream_.socket().remote_endpoint(error);
  is_from_loopback_ = !error && is_loopback(*peer.data());
}

std::string_view connection::method() const {
  auto text = parser_->get().method_string();
  return {text.data(), text.size()};
}

std::string_view connection::target() const {
  auto text = parser_->get().target();
  return {text.data(), text.size()};
}

std::string_view connection::header(std::string_view name) const {
  auto value = parser_->get()[beast::string_view{name.data(), name.size()}];
  return {value.data(), value.size()};
}

asio::awaitable<connection::arrival> connection::read_request() {
  parser_.emplace();
  parser_->header_limit(header_bytes_max);
  parser_->body_limit(boost::none); // each route has its own
  must_continue_ = false;
  is_broken_ = false;
  is_idle_ = true;
  beast::error_code error;
  stream_.expires_after(idle_timeout_);
  co_await http::async_read_header(stream_, buffer_, *parser_,
                                   asio::redirect_error(asio::use_awaitable, error));
  is_idle_ = false;
  if (!error) {
    must_continue_ = beast::iequals(parser_->get()[http::field::expect], "100-continue") &&
                     parser_->get().version() >= 11;
    co_return arrival::request;
  }
  if (!is_http_error(error) || error == http::error::end_of_stream ||
      error == http::error::partial_message) {
    co_return arrival::closed;
  }
  is_broken_ = true;
  bool is_large = error == http::error::header_limit || error == http::error::buffer_overflow;
  refused_because_ = is_large ? refusal{431, "the request's header is too large"}
                              : bad_request("malformed HTTP request: " + error.message());
  co_return arrival::refused;
}

std::optional<std::uint64_t> connection::length() const {
  auto length = parser_->content_length();
  return length ? std::optional<std::uint64_t>{*length} : std::nullopt;
}

asio::awaitable<answer<std::string>> connection::next(std::size_t bytes_max) {
  std::string out;
  if (parser_->is_done()) {
    co_return out;
  }
  if (std::exchange(must_continue_, false) &&
      !co_await send("HTTP/1.1 100 Continue\r\n\r\n", {}, {})) {
    is_broken_ = true;
    co_return bad_request("the connection broke");
  }
  out.resize(bytes_max);
  std::size_t filled = 0;
  while (filled < bytes_max && !parser_->is_done()) {
    auto& body = parser_->get().body();
    body.data = out.data() + filled;
    body.size = bytes_max - filled;
    beast::error_code error;
    stream_.expires_after(idle_timeout_);
    co_await http::async_read_some(stream_, buffer_, *parser_,
                                   asio::redirect_error(asio::use_awaitable, error));
    filled = bytes_max - body.size;
    if (error && error != http::error::need_buffer) {
      is_broken_ = true;
      co_return bad_request("the body could not be read: " + error.message());
    }
  }
  out.resize(filled);
  co_return out;
}

asio::awaitable<bool> connection::discard_body() {
  auto left = parser_->content_length_remaining();
  bool is_hopeless = is_broken_ || must_continue_ || (left && *left > discard_bytes_max);
  for (std::uint64_t total = 0; !is_hopeless && !parser_->is_done();) {
    auto piece = co_await next(discard_bytes_max / 4);
    total += piece ? piece->size() : 0;
    is_hopeless = piece.has_error() || total > discard_bytes_max;
  }
  co_return !is_hopeless;
}

asio::awaitable<bool> connection::send(std::string_view first, std::string_view second,
                                       std::string_view third) {
  std::array<asio::const_buffer, 3> buffers{asio::buffer(first.data(), first.size()),
                                            asio::buffer(second.data(), second.size()),
                                            asio::buffer(third.data(), third.size())};
  beast::error_code error;
  stream_.expires_after(idle_timeout_);
  co_await asio::async_write(stream_, buffers, asio::redirect_error(asio::use_awaitable, error));
  co_return !error;
}

/// Decides how the body travels, and takes the beginning of a stream: while no status was sent, a
/// failure can still be told. Gives the failure.
asio::awaitable<std::optional<refusal>> connection::gather(reply& out, body_plan& plan) {
  bool has_body = out.status != 204 && out.status != 304;
  bool is_old = parser_ && parser_->is_header_done() && parser_->get().version() < 11;
  if (parser_ && parser_->is_header_done() && parser_->get().method() == http::verb::head) {
    plan.how = body_plan::form::none;
    plan.length = out.length;
    if (!out.stream && !out.length && has_body) {
      plan.length = out.body.size();
    }
    co_return std::nullopt;
  }
  auto unsized = is_old ? body_plan::form::to_end : body_plan::form::chunked;
  if (!has_body) {
    plan.how = body_plan::form::none;
  } else if (!out.stream) {
    bool is_large = out.body.size() > announced_bytes_max;
    plan.how = is_large ? unsized : body_plan::form::sized;
    plan.length = is_large ? std::nullopt : std::optional<std::uint64_t>{out.body.size()};
    plan.first = std::move(out.body);
  } else {
    plan.is_ended = false;
    plan.length = out.length;
    while (!plan.is_ended && plan.first.size() <= (out.length ? 0 : announced_bytes_max)) {
      auto piece = co_await out.stream->next();
      if (piece.has_error()) {
        co_return piece.error();
      }
      plan.is_ended = piece->empty();
      plan.first += *piece;
    }
    if (plan.is_ended && !plan.length) {
      plan.length = plan.first.size();
    }
    plan.how = plan.length ? body_plan::form::sized : unsized;
  }
  co_return std::nullopt;
}

std::string connection::head_text(const reply& out, std::string_view request_id,
                                  const body_plan& plan, bool keep_alive) const {
  std::string head = "HTTP/1.1 " + std::to_string(out.status) + " ";
  head += reason_phrase(out.status);
  head += "\r\n";
  append_header(head, "Server", "coppice");
  append_header(head, "Date", date_text());
  append_header(head, "X-Request-Id", request_id);
  append_header(head, "X-Content-Type-Options", "nosniff");
  for (const auto& [name, value] : out.headers) {
    append_header(head, name, value);
  }
  bool has_content = plan.how != body_plan::form::none || out.status == 200;
  if (has_content && plan.length.value_or(1) > 0) {
    append_header(head, "Content-Type", out.content_type);
  }
  if (plan.length) {
    append_header(head, "Content-Length", std::to_string(*plan.length));
  } else if (plan.how == body_plan::form::chunked) {
    append_header(head, "Transfer-Encoding", "chunked");
  }
  append_header(head, "Connection", keep_alive ? "keep-alive" : "close");
  head += "\r\n";
  return head;
}

asio::awaitable<void> connection::write_body(reply& out, const std::string& head, body_plan& plan,
                                             written& result) {
  bool is_chunked = plan.how == body_plan::form::chunked;
  std::string prefix = head;
  auto piece = std::move(plan.first);
  for (;;) {
    result.bytes += piece.size();
    if (plan.how == body_plan::form::sized && result.bytes > *plan.length) {
      co_return; // more than was announced would be taken for the next reply
    }
    if (is_chunked && !piece.empty()) {
      std::array<char, 24> size{};
      std::snprintf(size.data(), size.size(), "%zx\r\n", piece.size());
      prefix += size.data();
    }
    bool is_sent = co_await send(prefix, piece, is_chunked && !piece.empty() ? "\r\n" : "");
    if (!is_sent) {
      co_return;
    }
    if (plan.is_ended) {
      break;
    }
    prefix.clear();
    auto more = co_await out.stream->next();
    if (more.has_error()) {
      co_return;
    }
    piece = std::move(*more);
    plan.is_ended = piece.empty();
    if (plan.is_ended) {
      break;
    }
  }
  if (is_chunked && !co_await send("0\r\n\r\n", {}, {})) {
    co_return;
  }
  result.is_complete = plan.how != body_plan::form::sized || result.bytes == *plan.length;
}

asio::awaitable<connection::written>
connection::write_reply(reply& out, std::string_view request_id, bool last) {
  body_plan plan;
  if (auto failed = co_await gather(out, plan)) {
    out = reply{*failed};
    plan = body_plan{};
    co_await gather(out, plan);
  }
  written result;
  result.status = out.status;
  bool has_request = parser_ && parser_->is_header_done() && !is_broken_;
  auto left = has_request ? parser_->content_length_remaining() : boost::none;
  bool is_body_left = has_request && !parser_->is_done();
  bool is_too_much = is_body_left && (must_continue_ || (left && *left > discard_bytes_max));
  result.keep_alive = has_request && parser_->keep_alive() && !last && !is_too_much &&
                      plan.how != body_plan::form::to_end;
  auto head = head_text(out, request_id, plan, result.keep_alive);
  if (plan.how == body_plan::form::none) {
    result.is_complete = co_await send(head, {}, {});
  } else {
    co_await write_body(out, head, plan, result);
  }
  out.stream.reset();
  result.keep_alive = result.keep_alive && result.is_complete && co_await discard_body();
  co_return result;
}

asio::awaitable<void> connection::linger() {
  is_idle_ = true;
  beast::error_code error;
  stream_.socket().shutdown(stream_socket::shutdown_send, error);
  stream_.expires_after(linger_time);
  std::array<char, 16384> scratch{};
  while (!error) {
    co_await stream_.async_read_some(asio::buffer(scratch),
                                     asio::redirect_error(asio::use_awaitable, error));
  }
}

void connection::close() {
  beast::error_code ignored;
  stream_.socket().close(ignored);
  stream_.cancel();
}

} // namespace coppice::gateway
