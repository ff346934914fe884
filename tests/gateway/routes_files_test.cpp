#include "tests/gateway/routes_fixture.hpp"

#include <chrono>
#include <mutex>
#include <string>
#include <vector>

using namespace coppice;
using namespace coppice::test;

BOOST_FIXTURE_TEST_SUITE(routes, server_fixture)

BOOST_AUTO_TEST_CASE(an_upload_is_stored_piece_by_piece_and_found_again) {
  std::string bytes(1'000'000, 'x');
  auto client = this->client();
  auto answer = client.post("/v1/files", bytes);
  BOOST_TEST(answer.status == 201u);
  auto body = answer.json();
  BOOST_TEST(keys(body) == (std::vector<std::string>{"sha256", "size", "uuid"}),
             boost::test_tools::per_element());
  BOOST_TEST(body.at("size").as_int64() == 1'000'000);
  BOOST_TEST(inside.uploads.at(1) == bytes);
  BOOST_TEST(inside.appends == 4u);
  BOOST_TEST(inside.aborted_uploads == 0u);
  auto again = client.post("/v1/files", bytes);
  BOOST_TEST(text(again.json().at("uuid")) == text(body.at("uuid")));

  auto digest = text(body.at("sha256"));
  auto id = text(body.at("uuid"));
  for (const auto& target :
       {"/v1/files/" + digest, "/v1/files?sha256=" + digest, "/v1/files?uuid=" + id}) {
    auto found = client.get(target);
    BOOST_TEST(found.status == 200u, target);
    BOOST_TEST(text(found.json().at("uuid")) == id);
    BOOST_TEST(found.json().as_object().contains("updated_at"));
    auto head = client.head(target);
    BOOST_TEST(head.status == 200u);
    BOOST_TEST(head.body.empty());
  }
  BOOST_TEST(client.get("/v1/files").json().at("files").as_array().size() == 1u);
}

BOOST_AUTO_TEST_CASE(unknown_files_are_404) {
  auto client = this->client();
  for (const auto& target :
       {"/v1/files/" + no_digest, std::string{"/v1/files/xyz"}, "/v1/files?sha256=" + no_digest,
        std::string{"/v1/files?sha256="}, std::string{"/v1/files?uuid=x"},
        "/v1/files?uuid=" + uuid::random().text()}) {
    BOOST_TEST(client.get(target).status == 404u, target);
    BOOST_TEST(client.head(target).status == 404u, target);
  }
}

BOOST_AUTO_TEST_CASE(an_upload_may_come_in_chunks_or_be_empty) {
  auto client = this->client();
  client.send("POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n"
              "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  client.send("2;x=y\r\nde\r\n0\r\nTrailer: x\r\n\r\n");
  auto answer = client.read_answer();
  BOOST_TEST(answer.status == 201u);
  BOOST_TEST(inside.uploads.at(1) == "abcde");
  auto empty = client.post("/v1/files", "");
  BOOST_TEST(empty.status == 201u);
  BOOST_TEST(empty.json().at("size").as_int64() == 0);
}

BOOST_AUTO_TEST_CASE(an_upload_beyond_the_limit_is_413_and_given_up) {
  inside.config.http.upload_bytes_max = 300'000;
  auto client = this->client();
  BOOST_TEST(client.post("/v1/files", std::string(300'001, 'x')).status == 413u);
  auto chunked = this->client();
  std::string head = "POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n"
                     "Transfer-Encoding: chunked\r\n\r\n493e1\r\n";
  chunked.send(head + std::string(300'001, 'x') + "\r\n0\r\n\r\n");
  BOOST_TEST(chunked.read_answer().status == 413u);
  auto fits = this->client();
  BOOST_TEST(fits.post("/v1/files", std::string(300'000, 'x')).status == 201u);
  std::unique_lock lock{inside.mutex};
  auto is_given_up = inside.asked.wait_for(lock, std::chrono::seconds{20},
                                           [&] { return inside.aborted_uploads == 1; });
  BOOST_TEST(is_given_up);
  BOOST_TEST(inside.file_table.size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_full_disk_is_told_and_the_upload_given_up) {
  inside.store_error = ec::storage;
  auto answer = client().post("/v1/files", "x");
  BOOST_TEST(answer.status == 507u);
  BOOST_TEST(mentions(error_of(answer), "No space left"));
}

BOOST_AUTO_TEST_CASE(an_upload_that_had_to_give_way_may_be_sent_again) {
  inside.store_error = ec::not_found;
  auto answer = client().post("/v1/files", "x");
  BOOST_TEST(answer.status == 429u);
  BOOST_TEST(!answer.header("Retry-After").empty());
  BOOST_TEST(mentions(error_of(answer), "send the file again"));
}

BOOST_AUTO_TEST_SUITE_END()
