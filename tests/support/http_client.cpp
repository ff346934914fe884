#include "tests/support/http_client.hpp"

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <array>

namespace coppice::test {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using protocol = asio::generic::stream_protocol;

std::string http_answer::header(std::string_view name) const {
  auto found = std::find_if(headers.begin(), headers.end(),
                            [&](const auto& h) { return boost::beast::iequals(h.first, name); });
  return found == headers.end() ? std::string{} : found->second;
}

boost::json::value http_answer::json() const {
  return boost::json::parse(body);
}

struct http_client::connection {
  explicit connection(const protocol::endpoint& server) {
    socket.connect(server);
  }

  asio::io_context loop;
  protocol::socket socket{loop};
  boost::beast::flat_buffer buffer;
};

http_client::http_client(std::uint16_t port, std::string token)
    : connection_{std::make_unique<connection>(
          asio::ip::tcp::endpoint{asio::ip::address_v4::loopback(), port})},
      token_{std::move(token)} {}

http_client::http_client(const std::string& unix_socket)
    : connection_{
          std::make_unique<connection>(asio::local::stream_protocol::endpoint{unix_socket})} {}

http_client::~http_client() = default;

http_answer http_client::post(const std::string& target, const boost::json::value& body) {
  return request("POST", target, boost::json::serialize(body));
}

http_answer http_client::request(const std::string& method, const std::string& target,
                                 std::string body, const header_list& headers) {
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
  http::write(connection_->socket, message);
  return read_answer(method == "HEAD");
}

void http_client::send(std::string_view bytes) {
  asio::write(connection_->socket, asio::buffer(bytes.data(), bytes.size()));
}

http_answer http_client::read_answer(bool is_head) {
  http::response_parser<http::string_body> parser;
  parser.body_limit(boost::none);
  parser.skip(is_head);
  http::read(connection_->socket, connection_->buffer, parser);
  http_answer out;
  out.keep_alive = parser.keep_alive();
  out.status = parser.get().result_int();
  for (const auto& field : parser.get()) {
    out.headers.emplace_back(field.name_string(), field.value());
  }
  out.body = std::move(parser.get().body());
  return out;
}

bool http_client::is_closed_by_server() {
  char byte = 0;
  boost::system::error_code error;
  auto count = asio::read(connection_->socket, asio::buffer(&byte, 1), error);
  return count == 0 && connection_->buffer.size() == 0;
}

std::size_t http_client::read_some() {
  std::array<char, 4096> bytes{};
  boost::system::error_code error;
  return connection_->socket.read_some(asio::buffer(bytes), error);
}

void http_client::finish_sending() {
  connection_->socket.shutdown(protocol::socket::shutdown_send);
}

void http_client::close() {
  connection_->socket.close();
}

} // namespace coppice::test
