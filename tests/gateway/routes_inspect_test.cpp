#include "tests/gateway/server_fixture.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <mutex>
#include <string>
#include <vector>

using namespace coppice;
using namespace coppice::test;

BOOST_FIXTURE_TEST_SUITE(routes, server_fixture)

BOOST_AUTO_TEST_CASE(a_tag_leads_to_its_image) {
  auto id = inside.add_image("default", {"a/b:1"}).text();
  auto client = this->client();
  auto answer = client.get("/v1/inspect?tag=a/b:1");
  BOOST_TEST(answer.status == 301u);
  BOOST_TEST(answer.header("Location") == "inspect/?tag=a/b:1");
  answer = client.get("/v1/inspect/?tag=a/b:1");
  BOOST_TEST(answer.status == 302u);
  BOOST_TEST(answer.header("Location") == id + "/");
  answer = client.get("/v1/inspect/" + id);
  BOOST_TEST(answer.status == 301u);
  BOOST_TEST(answer.header("Location") == id + "/");
  answer = client.get("/v1/inspect/" + id + "/");
  BOOST_TEST(answer.status == 200u);
  BOOST_TEST(text(answer.json().at("uuid")) == id);
  BOOST_TEST(client.get("/v1/inspect/").status == 400u);
  BOOST_TEST(client.get("/v1/inspect/?tag=nothing").status == 404u);
  BOOST_TEST(client.get("/v1/inspect/?tag=a%20b").status == 404u);
  BOOST_TEST(client.get("/v1/inspect/" + uuid::random().text() + "/").status == 404u);
  BOOST_TEST(client.get("/v1/inspect/nonsense/").status == 404u);
  BOOST_TEST(client.get("/v1/inspect/nonsense").status == 404u);
}

BOOST_AUTO_TEST_CASE(a_directory_is_listed_with_every_member) {
  inside.paths["/etc dir"] = {{}, {"a", "b\xFF"}, true, {}};
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  auto body = client.get("/v1/inspect/" + id + "/list?path=/etc%20dir").json();
  BOOST_TEST(text(body.at("path")) == "/etc dir");
  auto files = body.at("files").as_array();
  BOOST_REQUIRE(files.size() == 2u);
  BOOST_TEST(files[0].as_object().size() == 15u);
  BOOST_TEST(text(files[0].at("owner")) == "root");
  BOOST_TEST(files[0].at("group").as_int64() == 0); // no name is known for it
  BOOST_TEST(files[0].at("mode").as_int64() == 33188);
  BOOST_TEST(files[0].at("is_regular").as_bool());
  BOOST_TEST(!files[0].at("is_dir").as_bool());
  BOOST_TEST(text(files[1].at("path")) == "b\xEF\xBF\xBD");
  auto listing = client.get("/v1/inspect/" + id + "/list?path=/etc%20dir&text");
  BOOST_TEST(listing.header("Content-Type").starts_with("text/plain"));
  BOOST_TEST(listing.body.starts_with("total 4.0K\n-rw-r--r--"));
}

BOOST_AUTO_TEST_CASE(a_huge_directory_is_listed_piece_by_piece) {
  std::vector<std::string> names;
  for (int i = 0; i < 20'000; ++i) {
    names.push_back("file-" + std::to_string(i));
  }
  inside.paths["/"] = {{}, names, true, {}};
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  auto answer = client.get("/v1/inspect/" + id + "/list");
  BOOST_TEST(answer.header("Transfer-Encoding") == "chunked");
  BOOST_TEST(answer.json().at("files").as_array().size() == names.size());
  auto listing = client.get("/v1/inspect/" + id + "/list?text=1");
  BOOST_TEST(listing.body.starts_with("total 39M\n"));
  BOOST_TEST(std::count(listing.body.begin(), listing.body.end(), '\n') ==
             static_cast<std::ptrdiff_t>(names.size() + 1));
}

BOOST_AUTO_TEST_CASE(a_file_is_downloaded_with_its_length) {
  std::string bytes;
  for (int i = 0; i < 1'000'000; ++i) {
    bytes += static_cast<char>(i * 31);
  }
  inside.paths["/bin/x"] = {bytes, {}, false, {}};
  inside.paths["/empty"] = {};
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  auto answer = client.get("/v1/inspect/" + id + "/download?path=/bin/x");
  BOOST_TEST(answer.status == 200u);
  BOOST_TEST(answer.header("Content-Length") == "1000000");
  BOOST_TEST(answer.header("Content-Type") == "application/octet-stream");
  BOOST_TEST((answer.body == bytes));
  BOOST_TEST(client.get("/v1/inspect/" + id + "/download?path=bin/x").status == 200u);
  BOOST_TEST(client.get("/v1/inspect/" + id + "/download?path=/empty").body.empty());
}

BOOST_AUTO_TEST_CASE(looking_whether_a_file_is_there_reads_none_of_it) {
  inside.paths["/x"] = {"12345", {}, false, {}};
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  auto head = client.head("/v1/inspect/" + id + "/download?path=/x");
  BOOST_TEST(head.status == 200u);
  BOOST_TEST(head.header("Content-Length") == "5");
  BOOST_TEST(client.head("/v1/inspect/" + id + "/download?path=/y").status == 404u);
  std::unique_lock lock{inside.mutex};
  auto is_closed = inside.asked.wait_for(lock, std::chrono::seconds{20},
                                         [&] { return inside.inspect_closes == 1; });
  BOOST_TEST(is_closed);
}

BOOST_AUTO_TEST_CASE(wrong_paths_are_told_apart) {
  inside.paths["/dir"] = {{}, {}, true, {}};
  inside.paths["/file"] = {"x", {}, false, {}};
  auto id = inside.add_image("default", {}).text();
  auto client = this->client();
  auto status = [&](const std::string& rest) {
    return client.get("/v1/inspect/" + id + rest).status;
  };
  BOOST_TEST(status("/list?path=/file") == 422u);
  BOOST_TEST(status("/download?path=/dir") == 422u);
  BOOST_TEST(status("/list?path=/nothing") == 404u);
  BOOST_TEST(status("/download?path=/nothing") == 404u);
  BOOST_TEST(status("/download") == 400u);
  BOOST_TEST(status("/download?path=/a%00b") == 400u);
  BOOST_TEST(status("/list?text=perhaps") == 400u);
  BOOST_TEST(status("/archive?path=/") == 404u);
  BOOST_TEST(client.get("/v1/inspect/nonsense/list").status == 404u);
  BOOST_TEST(client.get("/v1/inspect/" + uuid::random().text() + "/list").status == 404u);
}

BOOST_AUTO_TEST_CASE(a_download_of_another_length_than_announced_breaks_the_connection) {
  auto id = inside.add_image("default", {}).text();
  inside.paths["/short"] = {"12345", {}, false, 9};
  auto shorter = client();
  BOOST_CHECK_THROW(shorter.get("/v1/inspect/" + id + "/download?path=/short"), std::exception);
  inside.paths["/long"] = {"12345", {}, false, 3};
  auto longer = client();
  BOOST_CHECK_THROW(longer.get("/v1/inspect/" + id + "/download?path=/long"), std::exception);
}

BOOST_AUTO_TEST_CASE(a_reader_that_goes_away_closes_its_session) {
  inside.paths["/big"] = {std::string(50u << 20, 'x'), {}, false, {}};
  auto id = inside.add_image("default", {}).text();
  {
    auto client = this->client();
    client.send("GET /v1/inspect/" + id +
                "/download?path=/big HTTP/1.1\r\nAuthorization: Bearer secret\r\n\r\n");
  }
  std::unique_lock lock{inside.mutex};
  auto is_closed = inside.asked.wait_for(lock, std::chrono::seconds{20},
                                         [&] { return inside.inspect_closes == 1; });
  BOOST_TEST(is_closed);
}

BOOST_AUTO_TEST_SUITE_END()
