#pragma once

#include <boost/asio/connect.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace coppice::test {

/// A reply as a client sees it.
struct http_answer {
  unsigned status = 0;
  boost::beast::http::fields headers;
  std::string body;
  bool keep_alive = false;

  std::string header(std::string_view name) const {
    return std::string{headers[boost::beast::string_view{name.data(), name.size()}]};
  }
  boost::json::value json() const {
    return boost::json::parse(body);
  }
};

/// A blocking HTTP/1.1 client on one kept connection; throws when the connection breaks.
class http_client {
public:
  using protocol = boost::asio::generic::stream_protocol;
  using header_list = std::vector<std::pair<std::string, std::string>>;

  explicit http_client(std::uint16_t port, std::string token = {}) : token_{std::move(token)} {
    boost::asio::ip::tcp::endpoint server{boost::asio::ip::address_v4::loopback(), port};
    socket_.connect(protocol::endpoint{server});
  }

  explicit http_client(const std::string& unix_socket) {
    boost::asio::local::stream_protocol::endpoint server{unix_socket};
    socket_.connect(protocol::endpoint{server});
  }

  http_answer get(const std::string& target) {
    return request("GET", target);
  }
  http_answer head(const std::string& target) {
    return request("HEAD", target);
  }
  http_answer post(const std::string& target, std::string body) {
    return request("POST", target, std::move(body));
  }
  http_answer post(const std::string& target, const char* body) {
    return request("POST", target, body);
  }
  http_answer post(const std::string& target, const boost::json::value& body) {
    return request("POST", target, boost::json::serialize(body));
  }

  http_answer request(const std::string& method, const std::string& target, std::string body = {},
                      const header_list& headers = {}) {
    namespace http = boost::beast::http;
    http::request<http::string_body> message{http::string_to_verb(method), target, 11};
    message.set(http::field::host, "localhost");
    if (!token_.empty()) {
      message.set(http::field::authorization, "Bearer " + token_);
    }
    for (const auto& [name, value] : headers) {
      message.set(name, value);
    }
    message.body() = std::move(body);
    message.prepare_payload();
    http::write(socket_, message);
    return read_answer(method == "HEAD");
  }

  void send(std::string_view bytes) {
    boost::asio::write(socket_, boost::asio::buffer(bytes.data(), bytes.size()));
  }

  http_answer read_answer(bool is_head = false) {
    namespace http = boost::beast::http;
    http::response_parser<http::string_body> parser;
    parser.body_limit(boost::none);
    parser.skip(is_head);
    http::read(socket_, buffer_, parser);
    keep_alive_ = parser.keep_alive();
    http_answer out;
    out.status = parser.get().result_int();
    out.headers = parser.get().base();
    out.body = std::move(parser.get().body());
    out.keep_alive = keep_alive_;
    return out;
  }

  /// Whether the server has closed the connection and sent nothing more; blocks until it knows.
  bool is_closed_by_server() {
    char byte = 0;
    boost::system::error_code error;
    auto count = boost::asio::read(socket_, boost::asio::buffer(&byte, 1), error);
    return count == 0 && buffer_.size() == 0;
  }

  /// Some bytes as they come, at most 4 KiB; 0 when the connection has ended, however.
  std::size_t read_some() {
    std::array<char, 4096> bytes{};
    boost::system::error_code error;
    return socket_.read_some(boost::asio::buffer(bytes), error);
  }

  /// The client sends no more, and still reads.
  void finish_sending() {
    socket_.shutdown(protocol::socket::shutdown_send);
  }

  void close() {
    socket_.close();
  }

private:
  boost::asio::io_context loop_;
  protocol::socket socket_{loop_};
  boost::beast::flat_buffer buffer_;
  std::string token_;
  bool keep_alive_ = true;
};

} // namespace coppice::test
