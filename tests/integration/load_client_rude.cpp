#include "tests/integration/load_client.hpp"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>

#include <array>
#include <string_view>

// What no client should do, and some do.

namespace coppice::test {

namespace asio = boost::asio;

namespace {

/// Speaks no HTTP of its own.
class raw_connection {
public:
  explicit raw_connection(const node& server) {
    socket_.connect({asio::ip::address_v4::loopback(), server.port()});
  }

  /// The server may have closed meanwhile: that is its good right.
  void send(std::string_view bytes) {
    boost::system::error_code ignored;
    asio::write(socket_, asio::buffer(bytes.data(), bytes.size()), ignored);
  }

  void read_some() {
    std::array<char, 1000> piece{};
    boost::system::error_code ignored;
    socket_.read_some(asio::buffer(piece), ignored);
  }

  void finish_sending() {
    boost::system::error_code ignored;
    socket_.shutdown(asio::socket_base::shutdown_send, ignored);
  }

  /// The server sees a reset instead of an end.
  void reset() {
    boost::system::error_code ignored;
    socket_.set_option(asio::socket_base::linger{true, 0}, ignored);
  }

private:
  asio::io_context loop_;
  asio::ip::tcp::socket socket_{loop_};
};

} // namespace

void load_client::ask_wrongly() {
  const std::string unknown = "00000000-0000-4000-8000-000000000000";
  ask("GET", "/v1/operations/" + unknown, 404);
  ask("GET", "/v1/operations/" + unknown + "/events?follow=1", 404);
  ask("GET", "/v1/inspect/" + unknown + "/list?path=/", 404);
  ask("DELETE", "/v1/images/" + unknown, 404);
  ask("GET", "/v1/nothing", 404);
  ask("PUT", "/v1/images", 405);
  ask("GET", "/v1/images?limit=0", 400);
  ask("GET", "/v1/whoami", 401, {}, {{"Authorization", "Bearer nonsense"}});
  ask("POST", "/v1/instances", 400, "{not json");
  ask("POST", "/v1/instances", 400, R"({"command":"true"})");
  ask("POST", "/v1/instances", 400, R"({"command":"true","image":")" + base_ + R"(","timeout":0})");
  ask("POST", "/v1/instances", 404, R"({"command":"true","image":"tag:nothing"})");
  ask("POST", "/v1/instances", 400, std::string(5000, '['));
  ask("POST", "/v1/images/import", 400, R"({"registry":{"url":"docker://a b"}})");
  ask("GET", "/v1/inspect/" + base_ + "/grep?pattern=(", 400);
}

void load_client::send_nonsense() {
  const std::string begin = " HTTP/1.1\r\nHost: localhost\r\n";
  const std::array<std::string, 8> all{
      "nonsense\r\n\r\n",
      "GET /v1/whoami HTTP/9.9\r\n\r\n",
      "GET /v1/whoami" + begin + "X: " + std::string(100'000, 'x') + "\r\n\r\n",
      "GET /" + std::string(50'000, 'y') + begin + "\r\n",
      "POST /v1/instances" + begin + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
      "POST /v1/files" + begin + "Authorization: Bearer " + server_.own_token() +
          "\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n\r\n",
      std::string{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11} + std::string(500, '\0') +
          "\r\n\r\n",
      std::string(64, '\0') + "\r\n\r\n",
  };
  for (const auto& each : all) {
    auto client = server_.connect();
    client.send(each);
    const auto answer = client.read_answer();
    insist(answer.status >= 400 && answer.status < 506 && answer.status != 500,
           "answered " + std::to_string(answer.status) + ": " + each.substr(0, 40));
  }
}

void load_client::drop_connections() {
  const auto head =
      " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + server_.own_token() + "\r\n";
  const std::array<std::string, 9> all{
      "",
      "GET /v1/images" + head,
      "POST /v1/files" + head + "Content-Length: 1000000\r\n\r\n" + std::string(300'000, 'q'),
      "POST /v1/files" + head + "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n7\r\nsec",
      "POST /v1/files" + head + "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n",
      "POST /v1/instances" + head + "Content-Length: 100\r\n\r\n{\"command\"",
      "GET /v1/inspect/" + base_ + "/archive?path=/" + head + "\r\n",
      "GET /v1/inspect/" + base_ + "/grep?pattern=e" + head + "\r\n",
      "GET /v1/operations?limit=1000" + head + "\r\n",
  };
  for (const auto& each : all) {
    raw_connection client{server_};
    client.send(each);
    switch (below(4)) {
    case 0:
      client.finish_sending();
      client.read_some(); // an answer, or the end
      break;
    case 1:
      client.reset();
      break;
    default:
      break; // closes at once
    }
  }
}

} // namespace coppice::test
