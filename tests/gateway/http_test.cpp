#define BOOST_TEST_MODULE http
#include "tests/gateway/server_fixture.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

using namespace coppice;
using namespace coppice::test;

namespace {

/// Every raw request with the token of the fixture.
std::string raw(const std::string& first_line, const std::string& rest = {}) {
  return first_line + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n" + rest + "\r\n";
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(http, server_fixture)

BOOST_AUTO_TEST_CASE(health_needs_no_token) {
  auto client = this->client("");
  auto answer = client.get("/healthz");
  BOOST_TEST(answer.status == 200u);
  BOOST_TEST(answer.body == R"({"status":"ok"})");
  BOOST_TEST(!answer.header("X-Request-Id").empty());
}

BOOST_AUTO_TEST_CASE(every_other_address_needs_a_known_token) {
  for (auto token : {"", "wrong"}) {
    auto client = this->client(token);
    auto answer = client.get("/v1/whoami");
    BOOST_TEST(answer.status == 401u);
    BOOST_TEST(answer.keep_alive);
    error_of(answer);
  }
  auto client = this->client("");
  auto answer = client.request("GET", "/v1/whoami", {}, {{"Authorization", "Basic c2VjcmV0"}});
  BOOST_TEST(answer.status == 401u);
  answer = client.request("GET", "/v1/whoami", {}, {{"Authorization", "bearer  secret "}});
  BOOST_TEST(answer.status == 200u);
}

BOOST_AUTO_TEST_CASE(unknown_addresses_are_404_and_wrong_methods_405) {
  auto client = this->client();
  for (auto target : {"/", "/v1", "/v2/whoami", "/v1/whoami/", "/v1/nothing", "/v1/operations/",
                      "/v1/inspect/x/nothing", "/admin/import"}) {
    auto answer = client.get(target);
    BOOST_TEST(answer.status == 404u, target);
    error_of(answer);
  }
  auto answer = client.request("PUT", "/v1/operations/x");
  BOOST_TEST(answer.status == 405u);
  BOOST_TEST(answer.header("Allow") == "GET, HEAD, DELETE");
  answer = client.request("DELETE", "/v1/files");
  BOOST_TEST(answer.header("Allow") == "POST, GET, HEAD");
}

BOOST_AUTO_TEST_CASE(one_connection_serves_head_get_and_refusals_in_turn) {
  auto client = this->client();
  for (int round = 0; round < 3; ++round) {
    auto head = client.head("/v1/whoami");
    BOOST_TEST(head.status == 200u);
    BOOST_TEST(head.body.empty());
    auto missing = client.head("/v1/files/" + std::string(64, 'a'));
    BOOST_TEST(missing.status == 404u);
    auto get = client.get("/v1/whoami");
    BOOST_TEST(get.status == 200u);
    BOOST_TEST(head.header("Content-Length") == std::to_string(get.body.size()));
    BOOST_TEST(client.post("/v1/instances", "{").status == 400u);
  }
}

BOOST_AUTO_TEST_CASE(pipelined_requests_are_answered_in_order) {
  auto client = this->client();
  client.send(raw("GET /healthz") + raw("GET /v1/nothing") + raw("HEAD /v1/whoami") +
              raw("GET /v1/whoami"));
  BOOST_TEST(client.read_answer().status == 200u);
  BOOST_TEST(client.read_answer().status == 404u);
  BOOST_TEST(client.read_answer(true).status == 200u);
  BOOST_TEST(client.read_answer().json().as_object().contains("limits"));
}

BOOST_AUTO_TEST_CASE(close_is_honoured) {
  auto client = this->client();
  auto answer = client.request("GET", "/healthz", {}, {{"Connection", "close"}});
  BOOST_TEST(!answer.keep_alive);
  BOOST_TEST(answer.header("Connection") == "close");
  BOOST_TEST(client.is_closed_by_server());
}

BOOST_AUTO_TEST_CASE(an_old_client_gets_a_body_that_ends_with_the_connection) {
  inside.paths["/"] = {.data = {},
                       .entries = std::vector<std::string>(2000, "name"),
                       .is_directory = true,
                       .announced_bytes = {},
                       .stored = {}};
  auto image = inside.add_image("default", {});
  auto client = this->client();
  client.send("GET /v1/inspect/" + image.text() +
              "/list HTTP/1.0\r\nAuthorization: Bearer secret\r\n\r\n");
  auto answer = client.read_answer();
  BOOST_TEST(answer.status == 200u);
  BOOST_TEST(answer.header("Transfer-Encoding").empty());
  BOOST_TEST(answer.json().at("files").as_array().size() == 2000u);
}

BOOST_AUTO_TEST_CASE(what_is_no_http_is_refused_and_the_connection_closed) {
  for (auto bytes :
       {"nonsense\r\n\r\n", "GET / HTTP/3.0\r\n\r\n", "GET / HTTP/1.1\r\nbad header\r\n\r\n",
        "POST /v1/files HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /v1/files HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        "POST /v1/files HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"}) {
    auto client = this->client();
    client.send(bytes);
    auto answer = client.read_answer();
    BOOST_TEST(answer.status == 400u, bytes);
    BOOST_TEST(!answer.keep_alive);
    error_of(answer);
    BOOST_TEST(client.is_closed_by_server());
  }
}

BOOST_AUTO_TEST_CASE(a_header_beyond_the_limit_is_refused) {
  auto client = this->client();
  client.send(raw("GET /healthz", "X: " + std::string(40'000, 'x') + "\r\n"));
  BOOST_TEST(client.read_answer().status == 431u);
  BOOST_TEST(client.is_closed_by_server());
  auto other = this->client();
  other.send("GET /healthz?" + std::string(20'000, 'x') + " HTTP/1.1\r\n\r\n");
  BOOST_TEST(other.read_answer().status == 414u);
  BOOST_TEST(other.is_closed_by_server());
}

BOOST_AUTO_TEST_CASE(a_body_that_breaks_off_or_breaks_the_rules_harms_nobody) {
  auto client = this->client();
  client.send(raw("POST /v1/instances", "Transfer-Encoding: chunked\r\n") + "zz\r\n");
  auto answer = client.read_answer();
  BOOST_TEST(answer.status == 400u);
  BOOST_TEST(!answer.keep_alive);
  {
    auto gone = this->client();
    gone.send(raw("POST /v1/files", "Content-Length: 100000\r\n") + "part");
    gone.close();
  }
  BOOST_TEST(this->client().get("/healthz").status == 200u);
}

BOOST_AUTO_TEST_CASE(a_body_that_no_route_reads_never_becomes_a_request) {
  auto client = this->client();
  client.send(raw("GET /healthz", "Content-Length: 26\r\nContent-Type: application/json\r\n") +
              "GET /v1/whoami HTTP/1.1\r\n\r");
  BOOST_TEST(client.read_answer().status == 200u);
  BOOST_TEST(client.get("/v1/nothing").status == 404u);
}

BOOST_AUTO_TEST_CASE(the_client_is_told_to_continue_before_it_sends_a_body) {
  auto client = this->client();
  client.send(raw("POST /v1/files", "Content-Length: 4\r\nExpect: 100-continue\r\n"));
  BOOST_TEST(client.read_answer().status == 100u);
  client.send("data");
  BOOST_TEST(client.read_answer().status == 201u);
}

BOOST_AUTO_TEST_CASE(the_client_is_not_told_to_continue_when_it_is_refused_anyway) {
  inside.config.http.upload_bytes_max = 10;
  auto client = this->client();
  client.send(raw("POST /v1/files", "Content-Length: 11\r\nExpect: 100-continue\r\n"));
  auto answer = client.read_answer();
  BOOST_TEST(answer.status == 413u);
  BOOST_TEST(!answer.keep_alive);
}

BOOST_AUTO_TEST_CASE(json_bodies_beyond_the_limit_are_413) {
  inside.config.http.json_body_bytes_max = 1000;
  auto client = this->client();
  auto answer = client.post("/v1/instances", std::string(1001, ' '));
  BOOST_TEST(answer.status == 413u);
  error_of(answer);
  auto chunked = this->client();
  chunked.send(raw("POST /v1/instances", "Transfer-Encoding: chunked\r\n") + "3e9\r\n" +
               std::string(1001, ' ') + "\r\n0\r\n\r\n");
  BOOST_TEST(chunked.read_answer().status == 413u);
}

BOOST_AUTO_TEST_CASE(a_client_that_sends_much_after_a_refusal_still_reads_it) {
  inside.config.http.upload_bytes_max = 1000;
  auto client = this->client();
  auto answer = client.post("/v1/files", std::string(8u << 20, 'x'));
  BOOST_TEST(answer.status == 413u);
}

BOOST_AUTO_TEST_CASE(an_idle_connection_is_closed) {
  inside.config.http.idle_timeout = std::chrono::seconds{1};
  auto client = this->client();
  BOOST_TEST(client.get("/healthz").status == 200u);
  BOOST_TEST(client.is_closed_by_server());
}

BOOST_AUTO_TEST_CASE(connections_beyond_the_limit_are_told_so) {
  inside.config.http.connections_max = 2;
  auto first = client();
  auto second = client();
  BOOST_TEST(first.get("/healthz").status == 200u);
  BOOST_TEST(second.get("/healthz").status == 200u);
  auto third = client();
  BOOST_TEST(third.read_answer().status == 503u);
  BOOST_TEST(operator_client().get("/healthz").status == 200u);
}

BOOST_AUTO_TEST_CASE(the_admin_socket_is_the_operators_and_needs_no_token) {
  auto client = operator_client();
  struct stat status {};
  BOOST_REQUIRE(::stat((folder / "admin.sock").c_str(), &status) == 0);
  BOOST_TEST((status.st_mode & 07777) == 0600u);
  auto answer = client.get("/v1/whoami");
  BOOST_TEST(answer.status == 200u);
  BOOST_TEST(answer.json().at("permissions").at("import").as_bool());
  inside.add_image("other", {"theirs"});
  answer = client.request("GET", "/v1/inspect/?tag=theirs", {}, {{"Project", "other"}});
  BOOST_TEST(answer.status == 302u);
  BOOST_TEST(client.get("/v1/inspect/?tag=theirs").status == 404u);
  BOOST_TEST(client.get("/v1/inspect/?tag=theirs&project=other").status == 302u);
  BOOST_TEST(client.get("/v1/whoami?project=A%20B").status == 400u);
}

BOOST_AUTO_TEST_CASE(stopping_answers_what_waits_and_closes_the_rest) {
  inside.is_silent = true;
  inside.add_image("default", {"base"});
  auto idle = client();
  BOOST_TEST(idle.get("/healthz").status == 200u);
  auto waiting = client();
  const std::string order = R"({"command":"true","image":"tag:base"})";
  waiting.send(
      raw("POST /v1/instances", "Content-Length: " + std::to_string(order.size()) + "\r\n") +
      order);
  {
    std::unique_lock lock{inside.mutex};
    inside.asked.wait(lock, [&] { return !inside.started.empty(); });
  }
  server->stop();
  auto answer = waiting.read_answer();
  BOOST_TEST(answer.status == 503u);
  BOOST_TEST(!answer.keep_alive);
  BOOST_TEST(idle.is_closed_by_server());
  BOOST_TEST(!std::filesystem::exists(folder / "admin.sock"));
}

BOOST_AUTO_TEST_CASE(many_clients_at_once_are_all_answered) {
  constexpr int clients = 32;
  constexpr int rounds = 40;
  const auto port = running().port();
  inside.paths["/f"] = {std::string(300'000, 'x'), {}, false, {}, {}};
  const auto download =
      "/v1/inspect/" + inside.add_image("default", {}).text() + "/download?path=/f";
  std::atomic<int> answered = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < clients; ++i) {
    threads.emplace_back([&, i] {
      http_client client{port, "secret"};
      for (int round = 0; round < rounds; ++round) {
        bool is_large = (round + i) % 8 == 0;
        auto answer = client.get(is_large ? download : "/v1/whoami");
        answered += answer.status == 200 && (!is_large || answer.body.size() == 300'000) ? 1 : 0;
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  BOOST_TEST(answered == clients * rounds);
}

BOOST_AUTO_TEST_CASE(clients_that_leave_at_any_moment_leave_nothing_behind) {
  inside.paths["/f"] = {std::string(3'000'000, 'x'), {}, false, {}, {}};
  const auto download =
      "/v1/inspect/" + inside.add_image("default", {}).text() + "/download?path=/f";
  for (int i = 0; i < 40; ++i) {
    auto client = this->client();
    client.send(raw("GET " + (i % 2 == 0 ? download : std::string{"/v1/whoami"})));
    if (i % 4 < 2) {
      client.close();
    }
  }
  std::unique_lock lock{inside.mutex};
  auto is_over = inside.asked.wait_for(lock, std::chrono::seconds{20}, [&] {
    return inside.inspect_paths.size() == 20 && inside.inspect_offsets.empty();
  });
  BOOST_TEST(is_over);
}

BOOST_AUTO_TEST_CASE(an_address_in_use_is_refused_by_name) {
  auto address = "127.0.0.1:" + std::to_string(running().port());
  auto second = gateway::http_server::start({address, {}}, inside.services());
  BOOST_REQUIRE(second.has_error());
  BOOST_TEST(mentions(second.error().text, address));
  for (auto bad : {"nonsense", ":80", "127.0.0.1:", "127.0.0.1:http", "256.0.0.1:80"}) {
    BOOST_TEST(gateway::http_server::start({bad, {}}, inside.services()).has_error(), bad);
  }
}

BOOST_AUTO_TEST_CASE(accepted_sockets_are_not_inherited_by_children) {
  auto client = this->client();
  BOOST_TEST(client.get("/healthz").status == 200u);
  // The client's own sockets are the only ones here that may be inherited.
  std::size_t inheritable = 0;
  for (const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"}) {
    int fd = std::stoi(entry.path().filename().string());
    int domain = 0;
    socklen_t size = sizeof domain;
    int flags = ::fcntl(fd, F_GETFD);
    if (flags >= 0 && (flags & FD_CLOEXEC) == 0 &&
        ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0) {
      ++inheritable;
    }
  }
  BOOST_TEST(inheritable == 1u);
}

BOOST_AUTO_TEST_CASE(head_says_what_get_would) {
  inside.paths["/"] = {.data = {},
                       .entries = std::vector<std::string>(2000, "name"),
                       .is_directory = true,
                       .announced_bytes = {},
                       .stored = {}};
  inside.paths["/f"] = {std::string(3000, 'x'), {}, false, {}, {}};
  const auto image = "/v1/inspect/" + inside.add_image("default", {}).text();
  auto client = this->client();
  for (const auto& target :
       {std::string{"/openapi.yaml"}, std::string{"/v1/whoami"}, std::string{"/v1/images"},
        image + "/list?path=/", image + "/download?path=/f", image + "/archive?path=/f"}) {
    for (const auto* coding : {"gzip", "identity"}) {
      const header_list headers{{"Accept-Encoding", coding}};
      auto get = client.request("GET", target, {}, headers);
      auto head = client.request("HEAD", target, {}, headers);
      BOOST_TEST(get.status == 200u, target);
      BOOST_TEST(head.status == get.status, target);
      for (const auto* name : {"Content-Type", "Content-Length", "Content-Encoding", "Vary"}) {
        BOOST_TEST(head.header(name) == get.header(name), target << " " << coding << " " << name);
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
