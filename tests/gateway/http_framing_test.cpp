#include "tests/gateway/server_fixture.hpp"

#include <string>
#include <vector>

using namespace coppice;
using namespace coppice::test;

// What is sent to make the server and a proxy before it disagree about where a request ends.

namespace {

constexpr const char* authorized = "Host: x\r\nAuthorization: Bearer secret\r\n";

std::string post(const std::string& headers, const std::string& body) {
  return "POST /v1/files HTTP/1.1\r\n" + std::string{authorized} + headers + "\r\n" + body;
}

/// What would be answered if the server took it for a request.
const std::string smuggled = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

} // namespace

BOOST_FIXTURE_TEST_SUITE(http_framing, server_fixture)

BOOST_AUTO_TEST_CASE(what_comes_after_a_doubtful_head_is_never_a_request) {
  for (const auto& bytes :
       {post("Content-Length: 5\r\nContent-Length: 0\r\n", "hello"),
        post("Content-Length: 0\r\nContent-Length: 0\r\n", ""),
        post("Content-Length: 5, 5\r\n", "hello"),
        post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: xchunked\r\n", ""), post("Transfer-Encoding: identity\r\n", ""),
        post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        post("X: a\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        post("X: a\nContent-Length: 5\r\n", "hello"), post("Host: y\r\n", ""),
        std::string{"GET /healthz HTTP/1.1\r\n\r\n"},
        std::string{"GET /healthz HTTP/1.1\nHost: x\n\n"},
        std::string{"POST /v1/files HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"}}) {
    auto client = this->client();
    client.send(bytes + smuggled);
    auto answer = client.read_answer();
    BOOST_TEST(answer.status == 400u, bytes);
    BOOST_TEST(!answer.keep_alive);
    BOOST_TEST(!answer.header("X-Request-Id").empty());
    error_of(answer);
    BOOST_TEST(client.is_closed_by_server());
  }
}

BOOST_AUTO_TEST_CASE(odd_chunks_end_the_connection) {
  for (const auto* chunks :
       {"zz\r\n", "-5\r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n", " 5\r\nhello\r\n0\r\n\r\n",
        "5 6\r\nhello\r\n0\r\n\r\n", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5;\x01=a\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n"}) {
    auto client = this->client();
    client.send(post("Transfer-Encoding: chunked\r\n", chunks) + smuggled);
    auto answer = client.read_answer();
    BOOST_TEST(answer.status == 400u, chunks);
    BOOST_TEST(!answer.keep_alive);
    BOOST_TEST(client.is_closed_by_server());
  }
  BOOST_TEST(inside.locked([&] { return inside.file_table.size(); }) == 0u);
}

BOOST_AUTO_TEST_CASE(chunks_as_the_standard_has_them_are_read) {
  for (const auto* chunks : {"5\r\nhello\r\n0\r\n\r\n", "1\r\nh\r\n0004\r\nello\r\n000\r\n\r\n",
                             "5;name=value;other=\"quoted\"\r\nhello\r\n0\r\n\r\n",
                             "2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Trailer: a\r\n\r\n"}) {
    auto client = this->client();
    client.send(post("Transfer-Encoding: chunked\r\n", chunks) + smuggled);
    auto answer = client.read_answer();
    BOOST_TEST((answer.status == 201u || answer.status == 200u), chunks);
    BOOST_TEST(answer.json().at("size").as_int64() == 5, chunks);
    BOOST_TEST(client.read_answer().status == 200u);
  }
}

BOOST_AUTO_TEST_CASE(a_chunk_line_without_an_end_is_cut_off) {
  auto client = this->client();
  client.send(post("Transfer-Encoding: chunked\r\n", "5;" + std::string(100'000, 'x')));
  auto answer = client.read_answer();
  BOOST_TEST(answer.status == 400u);
  BOOST_TEST(client.is_closed_by_server());
}

BOOST_AUTO_TEST_CASE(requests_in_one_go_are_answered_in_order_with_their_bodies) {
  auto client = this->client();
  client.send(post("Content-Length: 3\r\n", "one") + smuggled +
              post("Transfer-Encoding: chunked\r\n", "3\r\ntwo\r\n0\r\n\r\n") + "\r\n" +
              "GET /v1/nothing HTTP/1.1\r\n" + authorized + "\r\n" + smuggled);
  BOOST_TEST(client.read_answer().json().at("size").as_int64() == 3);
  BOOST_TEST(client.read_answer().body == R"({"status":"ok"})");
  BOOST_TEST(client.read_answer().json().at("size").as_int64() == 3);
  BOOST_TEST(client.read_answer().status == 404u);
  BOOST_TEST(client.read_answer().status == 200u);
  BOOST_TEST(inside.locked([&] { return inside.file_table.size(); }) == 2u);
}

BOOST_AUTO_TEST_CASE(a_request_that_comes_byte_by_byte_is_one_request) {
  auto client = this->client();
  for (char byte : post("Content-Length: 5\r\n", "hello") + smuggled) {
    client.send({&byte, 1});
  }
  BOOST_TEST(client.read_answer().status == 201u);
  BOOST_TEST(client.read_answer().status == 200u);
}

BOOST_AUTO_TEST_CASE(a_client_that_has_said_all_still_gets_its_answers) {
  auto client = this->client();
  client.send(smuggled + post("Content-Length: 5\r\n", "hello"));
  client.finish_sending();
  BOOST_TEST(client.read_answer().status == 200u);
  BOOST_TEST(client.read_answer().status == 201u);
  BOOST_TEST(client.is_closed_by_server());
}

BOOST_AUTO_TEST_CASE(a_body_that_ends_too_early_is_told_so) {
  for (const auto& part : {post("Content-Length: 10\r\n", "hello"),
                           post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"),
                           post("Transfer-Encoding: chunked\r\n", "5\r\nhel")}) {
    auto client = this->client();
    client.send(part);
    client.finish_sending();
    auto answer = client.read_answer();
    BOOST_TEST(answer.status == 400u, part);
    BOOST_TEST(mentions(error_of(answer), "body"));
  }
  BOOST_TEST(inside.locked([&] { return inside.file_table.size(); }) == 0u);
}

BOOST_AUTO_TEST_CASE(bad_percent_signs_in_the_path_are_400_and_the_connection_stays) {
  auto client = this->client();
  for (const auto* target : {"/v1/files/%", "/v1/files/%4", "/v1/files/%zz", "/%%%"}) {
    auto answer = client.get(target);
    BOOST_TEST(answer.status == 400u, target);
    BOOST_TEST(answer.keep_alive);
  }
}

BOOST_AUTO_TEST_CASE(old_clients_keep_a_connection_only_if_they_ask) {
  auto client = this->client();
  client.send(
      "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n");
  auto answer = client.read_answer();
  BOOST_TEST(answer.header("Connection") == "keep-alive");
  answer = client.read_answer();
  BOOST_TEST(answer.header("Connection") == "close");
  BOOST_TEST(client.is_closed_by_server());
}

BOOST_AUTO_TEST_CASE(an_old_client_is_not_told_to_continue) {
  auto client = this->client();
  client.send("POST /v1/files HTTP/1.0\r\nAuthorization: Bearer secret\r\nContent-Length: 4\r\n"
              "Expect: 100-continue\r\n\r\n");
  client.send("data");
  BOOST_TEST(client.read_answer().status == 201u);
}

BOOST_AUTO_TEST_CASE(other_expectations_are_refused) {
  auto client = this->client();
  client.send(post("Content-Length: 4\r\nExpect: cookies\r\n", "data"));
  BOOST_TEST(client.read_answer().status == 417u);
  BOOST_TEST(client.is_closed_by_server());
}

BOOST_AUTO_TEST_CASE(what_follows_the_last_chunk_is_no_header) {
  auto client = this->client();
  client.send(post("Transfer-Encoding: chunked\r\n",
                   "5\r\nhello\r\n0\r\nIdempotency-Key: " + std::string(300, 'x') + "\r\n\r\n") +
              smuggled);
  BOOST_TEST(client.read_answer().status == 201u); // such a key would be too long
  BOOST_TEST(client.read_answer().status == 200u);
}

BOOST_AUTO_TEST_SUITE_END()
