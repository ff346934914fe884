#include "tests/gateway/server_fixture.hpp"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

using namespace coppice;
using namespace coppice::test;
using namespace std::chrono_literals;

// What one client, or all of them, may have of the server.

namespace {

std::string raw(const std::string& first_line, const std::string& rest = {}) {
  return first_line + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n" + rest + "\r\n";
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(http_limits, server_fixture)

BOOST_AUTO_TEST_CASE(line_and_header_have_limits_of_their_own) {
  inside.config.http.request_line_bytes_max = 1024;
  inside.config.http.headers_bytes_max = 2048;
  inside.config.http.headers_max = 10;
  auto status = [&](const std::string& bytes) {
    auto client = this->client();
    client.send(bytes);
    auto answer = client.read_answer();
    if (answer.status != 200) {
      error_of(answer);
      BOOST_TEST(!answer.header("X-Request-Id").empty());
      BOOST_TEST(client.is_closed_by_server());
    }
    return answer.status;
  };
  BOOST_TEST(status(raw("GET /healthz?" + std::string(900, 'x'))) == 200u);
  BOOST_TEST(status(raw("GET /healthz?" + std::string(1100, 'x'))) == 414u);
  BOOST_TEST(status(raw("GET /healthz", "X: " + std::string(1900, 'x') + "\r\n")) == 200u);
  BOOST_TEST(status(raw("GET /healthz", "X: " + std::string(2100, 'x') + "\r\n")) == 431u);
  std::string lines;
  for (int i = 0; i < 8; ++i) {
    lines += "X: y\r\n";
  }
  BOOST_TEST(status(raw("GET /healthz", lines)) == 200u);
  BOOST_TEST(status(raw("GET /healthz", lines + "X: y\r\n")) == 431u);
}

BOOST_AUTO_TEST_CASE(the_default_limits_let_long_questions_through) {
  auto client = this->client();
  auto answer = client.request("GET", "/healthz?" + std::string(16'000, 'x'), {},
                               {{"X-Long", std::string(30'000, 'x')}});
  BOOST_TEST(answer.status == 200u);
}

BOOST_AUTO_TEST_CASE(a_header_that_takes_too_long_is_refused) {
  inside.config.http.header_timeout = 1s;
  auto client = this->client();
  client.send("GET /healthz HTTP/1.1\r\nHost:");
  auto answer = client.read_answer();
  BOOST_TEST(answer.status == 408u);
  error_of(answer);
  BOOST_TEST(client.is_closed_by_server());
}

BOOST_AUTO_TEST_CASE(a_body_that_comes_too_slowly_is_refused) {
  inside.config.http.stall_timeout = 1s;
  for (auto headers : {"Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"}) {
    auto client = this->client();
    client.send(raw("POST /v1/files", headers) + "5\r\nhel");
    auto answer = client.read_answer();
    BOOST_TEST(answer.status == 408u, headers);
    BOOST_TEST(mentions(error_of(answer), "rate_bytes_min"));
    BOOST_TEST(client.is_closed_by_server());
  }
  BOOST_TEST(inside.locked([&] { return inside.file_table.size(); }) == 0u);
}

BOOST_AUTO_TEST_CASE(a_client_that_reads_too_slowly_is_cut_off) {
  inside.config.http.stall_timeout = 1s;
  inside.paths["/f"] = {std::string(60'000'000, 'x'), {}, false, {}, {}}; // more than sockets hold
  auto client = this->client();
  client.send(
      raw("GET /v1/inspect/" + inside.add_image("default", {}).text() + "/download?path=/f"));
  std::unique_lock lock{inside.mutex};
  auto is_over = inside.asked.wait_for(lock, 60s, [&] { return inside.inspect_closes == 1; });
  BOOST_TEST(is_over);
}

BOOST_AUTO_TEST_CASE(a_client_that_takes_a_stored_file_too_slowly_is_cut_off) {
  inside.config.http.stall_timeout = 1s;
  inside.config.http.rate_bytes_min = 1ull << 40; // nobody is so fast
  inside.config.state_dir = folder;
  const auto id = inside.add_image("default", {});
  const std::string content(60'000'000, '\0');
  std::filesystem::create_directory(folder / "images");
  const auto file = folder / "images" / (id.text() + ".qcow2");
  std::ofstream{file}.flush();
  std::filesystem::resize_file(file, content.size());
  inside.paths["/f"] = {content, {}, false, {}, id};
  auto client = this->client();
  auto other = this->client();
  client.send(raw("GET /v1/inspect/" + id.text() + "/download?path=/f"));
  // Reads on and on, with other requests in between for slowness.
  std::size_t bytes = 0;
  for (auto part = client.read_some(); part > 0; part = client.read_some()) {
    bytes += part;
    if (bytes >= content.size()) {
      break;
    }
    for (int i = 0; i < 8; ++i) {
      BOOST_REQUIRE(other.get("/healthz").status == 200u);
    }
  }
  BOOST_TEST(bytes < content.size());
}

BOOST_AUTO_TEST_CASE(a_blank_line_is_no_request_that_has_begun) {
  inside.config.http.header_timeout = 1s;
  inside.config.http.idle_timeout = 3s;
  auto client = this->client();
  client.send("\r\n");
  BOOST_TEST(client.is_closed_by_server()); // and is told nothing
}

BOOST_AUTO_TEST_CASE(a_body_of_too_many_values_is_413) {
  std::string zeros = "0";
  for (int i = 0; i < 300'000; ++i) {
    zeros += ",0";
  }
  auto client = this->client();
  auto answer = client.post("/v1/instances", R"({"args":[)" + zeros + "]}");
  BOOST_TEST(answer.status == 413u);
  BOOST_TEST(mentions(error_of(answer), "values"));
}

BOOST_AUTO_TEST_CASE(one_address_cannot_take_every_connection) {
  inside.config.http.connections_address_max = 2;
  auto first = client();
  auto second = client();
  BOOST_TEST(first.get("/healthz").status == 200u);
  BOOST_TEST(second.get("/healthz").status == 200u);
  auto third = client();
  auto answer = third.read_answer();
  BOOST_TEST(answer.status == 429u);
  BOOST_TEST(answer.header("Retry-After") == "1");
  BOOST_TEST(!answer.header("X-Request-Id").empty());
  BOOST_TEST(mentions(error_of(answer), "127.0.0.1"));
  BOOST_TEST(third.is_closed_by_server());
  BOOST_TEST(operator_client().get("/healthz").status == 200u);
  // One that goes makes room for one.
  BOOST_TEST(first.request("GET", "/healthz", {}, {{"Connection", "close"}}).status == 200u);
  BOOST_TEST(first.is_closed_by_server());
  first.close();
  unsigned status = 0;
  while (status != 200) { // the server learns of the end of the first when it learns of it
    http_client fourth{running().port(), "secret"};
    try {
      status = fourth.get("/healthz").status;
    } catch (const boost::system::system_error&) {
      status = 0; // refused before it could ask
    }
  }
}

BOOST_AUTO_TEST_CASE(a_trusted_proxy_may_have_more_connections) {
  inside.config.http.connections_address_max = 1;
  inside.config.http.trusted_proxies = {"127.0.0.0/8"};
  auto first = client();
  auto second = client();
  BOOST_TEST(first.get("/healthz").status == 200u);
  BOOST_TEST(second.get("/healthz").status == 200u);
}

BOOST_AUTO_TEST_CASE(a_harmless_request_id_of_the_client_is_kept) {
  auto client = this->client();
  auto id = [&](const std::string& own) {
    return client.request("GET", "/healthz", {}, {{"X-Request-Id", own}}).header("X-Request-Id");
  };
  BOOST_TEST(id("trace-1/2") == "trace-1/2");
  BOOST_TEST(id("a b") != "a b");
  BOOST_TEST(id(std::string(129, 'x')).size() < 100u);
  auto missing = client.request("GET", "/v1/nothing", {}, {{"X-Request-Id", "trace-2"}});
  BOOST_TEST(missing.header("X-Request-Id") == "trace-2");
}

BOOST_AUTO_TEST_CASE(ready_means_that_runs_can_start) {
  auto client = this->client("");
  auto answer = client.get("/readyz");
  BOOST_TEST(answer.status == 503u);
  BOOST_TEST(mentions(error_of(answer), "accelerator"));
  inside.capacity->set(node_capacity{1, 1, 1000});
  answer = client.get("/readyz");
  BOOST_TEST(answer.status == 200u);
  BOOST_TEST(answer.body == R"({"status":"ready"})");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(cors, server_fixture)

namespace {

http_answer ask_from(http_client& client, const std::string& origin,
                     const std::string& method = "GET") {
  header_list headers{{"Origin", origin}};
  if (method == "OPTIONS") {
    headers.emplace_back("Access-Control-Request-Method", "PATCH");
    headers.emplace_back("Access-Control-Request-Headers", "authorization");
  }
  return client.request(method, "/v1/images/x/tag", {}, headers);
}

} // namespace

BOOST_AUTO_TEST_CASE(pages_get_nothing_unless_the_operator_names_them) {
  auto client = this->client("");
  auto answer = ask_from(client, "https://app.example", "OPTIONS");
  BOOST_TEST(answer.status == 405u);
  BOOST_TEST(answer.header("Access-Control-Allow-Origin").empty());
}

BOOST_AUTO_TEST_CASE(a_named_page_may_ask_and_read) {
  inside.config.http.cors_origins = {"https://app.example", "http://localhost:3000"};
  auto client = this->client("");
  auto asked = ask_from(client, "http://localhost:3000", "OPTIONS");
  BOOST_TEST(asked.status == 204u);
  BOOST_TEST(asked.header("Access-Control-Allow-Origin") == "http://localhost:3000");
  BOOST_TEST(mentions(asked.header("Access-Control-Allow-Methods"), "PATCH"));
  BOOST_TEST(mentions(asked.header("Access-Control-Allow-Headers"), "Authorization"));
  auto answer = ask_from(client, "https://app.example");
  BOOST_TEST(answer.status == 405u); // errors can be read, too
  BOOST_TEST(answer.header("Access-Control-Allow-Origin") == "https://app.example");
  BOOST_TEST(mentions(answer.header("Access-Control-Expose-Headers"), "X-Request-Id"));
  BOOST_TEST(answer.header("Vary") == "Origin");
  auto other = ask_from(client, "https://app.example.evil");
  BOOST_TEST(other.header("Access-Control-Allow-Origin").empty());
  BOOST_TEST(other.header("Vary") == "Origin");
}

BOOST_AUTO_TEST_CASE(any_page_may_when_the_operator_says_so) {
  inside.config.http.cors_origins = {"*"};
  auto client = this->client("");
  BOOST_TEST(ask_from(client, "https://x").header("Access-Control-Allow-Origin") == "*");
  BOOST_TEST(client.get("/healthz").header("Access-Control-Allow-Origin").empty());
}

BOOST_AUTO_TEST_SUITE_END()
