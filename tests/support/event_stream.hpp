#pragma once

#include "tests/support/http_client.hpp"

#include <boost/beast/http/buffer_body.hpp>
#include <boost/json/parse.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Server-sent events as a client sees them.
namespace coppice::test {

/// One frame; a comment has only `comment`.
struct sse_frame {
  std::optional<std::uint64_t> id;
  std::string event;
  std::string data;
  std::string comment;

  boost::json::value json() const {
    return boost::json::parse(data);
  }
};

/// Takes bytes as they come and gives whole frames.
class sse_parser {
public:
  void feed(std::string_view bytes) {
    text_ += bytes;
  }

  std::optional<sse_frame> next() {
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

  bool is_empty() const {
    return text_.empty();
  }

private:
  std::string text_;
};

/// A blocking reader of one stream on a connection of its own.
class event_stream {
public:
  using header_list = http_client::header_list;

  event_stream(std::uint16_t port, const std::string& token, const std::string& target,
               const header_list& headers = {}) {
    namespace asio = boost::asio;
    namespace http = boost::beast::http;
    asio::ip::tcp::endpoint server{asio::ip::address_v4::loopback(), port};
    socket_.connect(http_client::protocol::endpoint{server});
    http::request<http::empty_body> message{http::verb::get, target, 11};
    message.set(http::field::host, "localhost");
    message.set(http::field::accept, "text/event-stream");
    message.set(http::field::authorization, "Bearer " + token);
    for (const auto& [name, value] : headers) {
      message.set(name, value);
    }
    http::write(socket_, message);
    parser_.body_limit(boost::none);
    http::read_header(socket_, buffer_, parser_);
  }

  /// The client sends no more, and still reads.
  void finish_sending() {
    socket_.shutdown(http_client::protocol::socket::shutdown_send);
  }

  unsigned status() {
    return parser_.get().result_int();
  }
  std::string header(std::string_view name) {
    return std::string{parser_.get()[boost::beast::string_view{name.data(), name.size()}]};
  }

  /// Blocks until there is a frame; nothing at the end of the stream.
  std::optional<sse_frame> next_frame() {
    namespace http = boost::beast::http;
    for (;;) {
      if (auto frame = frames_.next()) {
        return frame;
      }
      if (parser_.is_done()) {
        return std::nullopt;
      }
      std::array<char, 16384> piece{};
      parser_.get().body().data = piece.data();
      parser_.get().body().size = piece.size();
      boost::beast::error_code error;
      http::read_some(socket_, buffer_, parser_, error);
      if (error && error != http::error::need_buffer) {
        broken_ = error.message();
        return std::nullopt;
      }
      frames_.feed({piece.data(), piece.size() - parser_.get().body().size});
    }
  }

  /// The next frame that is no comment.
  std::optional<sse_frame> next_event() {
    auto frame = next_frame();
    while (frame && !frame->comment.empty()) {
      frame = next_frame();
    }
    return frame;
  }

  std::vector<sse_frame> rest() {
    std::vector<sse_frame> out;
    while (auto frame = next_event()) {
      out.push_back(std::move(*frame));
    }
    return out;
  }

  /// Not empty: the stream ended without a proper end of its chunks.
  const std::string& broken() const {
    return broken_;
  }

  void close() {
    socket_.close();
  }

private:
  boost::asio::io_context loop_;
  http_client::protocol::socket socket_{loop_};
  boost::beast::flat_buffer buffer_;
  boost::beast::http::response_parser<boost::beast::http::buffer_body> parser_;
  sse_parser frames_;
  std::string broken_;
};

/// `stdout#3` and so on: what tests of order look at.
inline std::vector<std::string> names_of(const std::vector<sse_frame>& frames) {
  std::vector<std::string> out;
  for (const auto& frame : frames) {
    out.push_back(frame.event + (frame.id ? "#" + std::to_string(*frame.id) : std::string{}));
  }
  return out;
}

} // namespace coppice::test
