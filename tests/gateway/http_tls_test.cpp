#include "tests/gateway/server_fixture.hpp"
#include "tests/support/certificate.hpp"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <fstream>
#include <future>
#include <optional>
#include <string>

using namespace coppice;
using namespace coppice::test;
using namespace std::chrono_literals;

namespace asio = boost::asio;

namespace {

/// A blocking client over TLS that trusts anybody and says whom it met.
class tls_client {
public:
  explicit tls_client(std::uint16_t port, int version_max = TLS1_3_VERSION) {
    SSL_set_min_proto_version(stream_.native_handle(), TLS1_VERSION);
    SSL_set_max_proto_version(stream_.native_handle(), version_max);
    SSL_set_security_level(stream_.native_handle(), 0);
    stream_.lowest_layer().connect({asio::ip::address_v4::loopback(), port});
  }

  /// Whether both agree on how to speak.
  bool greet() {
    boost::system::error_code error;
    stream_.handshake(asio::ssl::stream_base::client, error);
    // Asio forgets the error of a handshake after which it had an alert to send.
    return !error && SSL_is_init_finished(stream_.native_handle()) == 1;
  }

  std::string server_name() {
    std::unique_ptr<X509, decltype(&X509_free)> met{
        SSL_get1_peer_certificate(stream_.native_handle()), &X509_free};
    char name[64] = "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(met.get()), NID_commonName, name, sizeof name);
    return name;
  }

  void send(const std::string& bytes) {
    asio::write(stream_, asio::buffer(bytes));
  }

  http_answer read_answer() {
    namespace http = boost::beast::http;
    http::response_parser<http::string_body> parser;
    parser.body_limit(boost::none);
    http::read(stream_, buffer_, parser);
    http_answer out;
    out.status = parser.get().result_int();
    out.body = std::move(parser.get().body());
    out.keep_alive = parser.keep_alive();
    return out;
  }

  http_answer get(const std::string& target, const std::string& headers = {}) {
    send("GET " + target + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n" + headers +
         "\r\n");
    return read_answer();
  }

  /// The bytes of an answer, all or the first few.
  std::size_t read_bytes(std::size_t bytes_max, boost::system::error_code& error) {
    std::string bytes(bytes_max, '\0');
    return asio::read(stream_, asio::buffer(bytes), error);
  }

  boost::system::error_code read_end() {
    char byte = 0;
    boost::system::error_code error;
    asio::read(stream_, asio::buffer(&byte, 1), error);
    return error;
  }

private:
  asio::io_context loop_;
  asio::ssl::context settings_{asio::ssl::context::tls_client};
  asio::ssl::stream<asio::ip::tcp::socket> stream_{loop_, settings_};
  boost::beast::flat_buffer buffer_;
};

struct tls_fixture : server_fixture {
  tls_fixture() {
    use(make_certificate(folder, "first"));
  }

  void use(const certificate_files& files) {
    inside.config.http.tls_certificate = files.certificate;
    inside.config.http.tls_key = files.key;
  }

  std::string why_not() {
    auto started = gateway::http_server::start({"127.0.0.1:0", {}}, inside.services());
    return started.has_error() ? started.error().text : "";
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(http_tls, tls_fixture)

BOOST_AUTO_TEST_CASE(requests_are_answered_over_one_kept_connection) {
  inside.paths["/f"] = {std::string(3'000'000, 'x'), {}, false, {}, {}};
  auto download = "/v1/inspect/" + inside.add_image("default", {}).text() + "/download?path=/f";
  tls_client client{running().port()};
  BOOST_REQUIRE(client.greet());
  BOOST_TEST(client.server_name() == "first");
  for (int round = 0; round < 3; ++round) {
    BOOST_TEST(client.get("/v1/whoami").status == 200u);
    BOOST_TEST(client.get(download).body.size() == 3'000'000u);
    BOOST_TEST(client.get("/v1/nothing").status == 404u);
  }
  client.send("POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n"
              "Content-Length: 2000000\r\n\r\n" +
              std::string(2'000'000, 'y'));
  BOOST_TEST(client.read_answer().json().at("size").as_int64() == 2'000'000);
  auto last = client.get("/healthz", "Connection: close\r\n");
  BOOST_TEST(!last.keep_alive);
  BOOST_TEST(client.read_end() == asio::error::eof); // and not a cut, which TLS would tell
}

BOOST_AUTO_TEST_CASE(pipelined_requests_are_answered_over_tls) {
  tls_client client{running().port()};
  BOOST_REQUIRE(client.greet());
  const std::string request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
  client.send(request + request + request);
  for (int i = 0; i < 3; ++i) {
    BOOST_TEST(client.read_answer().status == 200u);
  }
}

BOOST_AUTO_TEST_CASE(what_is_no_tls_and_what_is_too_old_is_let_go) {
  http_client plain{running().port(), "secret"};
  plain.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
  auto answer = plain.read_answer();
  BOOST_TEST(answer.status == 400u);
  BOOST_TEST(mentions(error_of(answer), "https"));
  BOOST_TEST(plain.is_closed_by_server());
  tls_client old{running().port(), TLS1_1_VERSION};
  BOOST_TEST(!old.greet());
  {
    http_client gone{running().port()};
    gone.send("\x16\x03\x01\x02");
    gone.close();
  }
  tls_client client{running().port()};
  BOOST_REQUIRE(client.greet());
  BOOST_TEST(client.get("/healthz").status == 200u);
}

BOOST_AUTO_TEST_CASE(a_handshake_that_takes_too_long_is_ended) {
  inside.config.http.header_timeout = 1s;
  http_client slow{running().port()};
  slow.send("\x16\x03\x01");
  BOOST_TEST(slow.is_closed_by_server());
  http_client silent{running().port()};
  BOOST_TEST(silent.is_closed_by_server());
}

BOOST_AUTO_TEST_CASE(the_admin_socket_needs_no_tls) {
  BOOST_TEST(operator_client().get("/v1/whoami").status == 200u);
}

BOOST_AUTO_TEST_CASE(new_connections_get_the_new_certificate) {
  tls_client before{running().port()};
  BOOST_REQUIRE(before.greet());
  auto second = make_certificate(folder, "second");
  std::filesystem::rename(second.certificate, inside.config.http.tls_certificate);
  // Half of a change: the key is still the old one.
  auto half = running().reload_tls();
  BOOST_REQUIRE(half.has_error());
  BOOST_TEST(mentions(half.error().text, "http.tls_key"));
  tls_client meanwhile{running().port()};
  BOOST_REQUIRE(meanwhile.greet());
  BOOST_TEST(meanwhile.server_name() == "first");
  std::filesystem::rename(second.key, inside.config.http.tls_key);
  BOOST_REQUIRE(running().reload_tls().has_value());
  tls_client after{running().port()};
  BOOST_REQUIRE(after.greet());
  BOOST_TEST(after.server_name() == "second");
  BOOST_TEST(before.get("/healthz").status == 200u);
}

BOOST_AUTO_TEST_CASE(files_that_cannot_be_used_are_named) {
  auto good = make_certificate(folder, "good");
  auto other = make_certificate(folder, "other");
  use({folder / "missing.pem", good.key});
  BOOST_TEST(mentions(why_not(), "missing.pem"));
  use({good.certificate, folder / "missing.key"});
  BOOST_TEST(mentions(why_not(), "missing.key"));
  use({good.certificate, other.key});
  BOOST_TEST(mentions(why_not(), "http.tls_key"));
  use({good.certificate, {}});
  BOOST_TEST(mentions(why_not(), "belong together"));
  std::ofstream{folder / "text"} << "no certificate";
  use({folder / "text", good.key});
  BOOST_TEST(mentions(why_not(), "http.tls_certificate"));
}

BOOST_AUTO_TEST_CASE(a_reply_under_way_when_the_server_stops_ends_in_order) {
  inside.paths["/f"] = {std::string(30'000'000, 'x'), {}, false, {}, {}}; // more than sockets hold
  auto download = "/v1/inspect/" + inside.add_image("default", {}).text() + "/download?path=/f";
  tls_client idle{running().port()};
  BOOST_REQUIRE(idle.greet());
  BOOST_TEST(idle.get("/healthz").status == 200u);
  tls_client busy{running().port()};
  BOOST_REQUIRE(busy.greet());
  busy.send("GET " + download + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n\r\n");
  boost::system::error_code error;
  BOOST_TEST(busy.read_bytes(1000, error) == 1000u);
  auto left = std::async(std::launch::async, [this] { return server->drain(1h); });
  idle.read_end(); // the server has begun to
  BOOST_TEST(busy.read_bytes(40'000'000, error) > 29'999'000u);
  BOOST_TEST(error == asio::error::eof); // and not a cut
}

BOOST_AUTO_TEST_SUITE_END()
