#include "tests/support/event_stream.hpp"

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/json/parse.hpp>

#include <algorithm>
#include <array>
#include <utility>

namespace coppice::test {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using protocol = asio::generic::stream_protocol;

boost::json::value sse_frame::json() const {
  return boost::json::parse(data);
}

std::optional<sse_frame> sse_parser::next() {
  const auto end = text_.find("\n\n");
  if (end == text_.npos) {
    return std::nullopt;
  }
  sse_frame out;
  std::string_view lines{text_.data(), end};
  while (!lines.empty()) {
    auto line = lines.substr(0, lines.find('\n'));
    lines.remove_prefix(std::min(line.size() + 1, lines.size()));
    if (line.starts_with(": ")) {
      out.comment = line.substr(2);
    } else if (line.starts_with("id: ")) {
      out.id = std::stoull(std::string{line.substr(4)});
    } else if (line.starts_with("event: ")) {
      out.event = line.substr(7);
    } else if (line.starts_with("data: ")) {
      out.data = line.substr(6);
    } else {
      out.event = "malformed line: " + std::string{line};
    }
  }
  text_.erase(0, end + 2);
  return out;
}

struct event_stream::connection {
  asio::io_context loop;
  protocol::socket socket{loop};
  boost::beast::flat_buffer buffer;
  http::response_parser<http::buffer_body> parser;
};

event_stream::event_stream(std::uint16_t port, const std::string& token, const std::string& target,
                           const header_list& headers)
    : connection_{std::make_unique<connection>()} {
  auto& [loop, socket, buffer, parser] = *connection_;
  asio::ip::tcp::endpoint server{asio::ip::address_v4::loopback(), port};
  socket.connect(protocol::endpoint{server});
  http::request<http::empty_body> message{http::verb::get, target, 11};
  message.set(http::field::host, "localhost");
  message.set(http::field::accept, "text/event-stream");
  message.set(http::field::authorization, "Bearer " + token);
  for (const auto& [name, value] : headers) {
    message.set(name, value);
  }
  http::write(socket, message);
  parser.body_limit(boost::none);
  http::read_header(socket, buffer, parser);
}

event_stream::~event_stream() = default;

void event_stream::finish_sending() {
  connection_->socket.shutdown(protocol::socket::shutdown_send);
}

unsigned event_stream::status() {
  return connection_->parser.get().result_int();
}

std::string event_stream::header(std::string_view name) {
  return std::string{
      connection_->parser.get()[boost::beast::string_view{name.data(), name.size()}]};
}

std::optional<sse_frame> event_stream::next_frame() {
  auto& [loop, socket, buffer, parser] = *connection_;
  for (;;) {
    if (auto frame = frames_.next()) {
      return frame;
    }
    if (parser.is_done()) {
      return std::nullopt;
    }
    std::array<char, 16384> piece{};
    parser.get().body().data = piece.data();
    parser.get().body().size = piece.size();
    boost::beast::error_code error;
    http::read_some(socket, buffer, parser, error);
    if (error && error != http::error::need_buffer) {
      broken_ = error.message();
      return std::nullopt;
    }
    frames_.feed({piece.data(), piece.size() - parser.get().body().size});
  }
}

std::optional<sse_frame> event_stream::next_event() {
  auto frame = next_frame();
  while (frame && !frame->comment.empty()) {
    frame = next_frame();
  }
  return frame;
}

std::vector<sse_frame> event_stream::rest() {
  std::vector<sse_frame> out;
  while (auto frame = next_event()) {
    out.push_back(std::move(*frame));
  }
  return out;
}

void event_stream::close() {
  connection_->socket.close();
}

std::vector<std::string> names_of(const std::vector<sse_frame>& frames) {
  std::vector<std::string> out;
  for (const auto& frame : frames) {
    out.push_back(frame.event + (frame.id ? "#" + std::to_string(*frame.id) : std::string{}));
  }
  return out;
}

} // namespace coppice::test
