#define BOOST_TEST_MODULE wrong_input
#include "tests/integration/shared_daemon.hpp"

#include <boost/json/serialize.hpp>
#include <boost/test/unit_test.hpp>

#include <string>

using namespace coppice::test;
namespace json = boost::json;

namespace {

http_client connect() {
  return server().connect();
}

constexpr const char* unknown = "00000000-0000-4000-8000-000000000000";

/// The body of every error is {"error": text, "status": number}.
void check(const http_answer& answer, unsigned status, const std::string& mentions = {}) {
  BOOST_TEST(answer.status == status, "status " << answer.status << ": " << answer.body);
  auto body = answer.json();
  BOOST_TEST(body.at("status").to_number<unsigned>() == status);
  std::string text{body.at("error").as_string()};
  BOOST_TEST(!text.empty());
  BOOST_TEST(text.find(mentions) != std::string::npos, "'" << text << "' names no " << mentions);
}

} // namespace

BOOST_TEST_GLOBAL_FIXTURE(shared_daemon);

BOOST_AUTO_TEST_CASE(what_is_not_there_is_404) {
  auto client = connect();
  const std::string id{unknown};
  check(client.get("/v1/operations/" + id), 404);
  check(client.get("/v1/operations/not-a-uuid"), 404);
  check(client.get("/v1/files/" + std::string(64, 'a')), 404);
  check(client.get("/v1/inspect/" + id + "/"), 404);
  check(client.get("/v1/inspect/" + id + "/list?path=/"), 404);
  check(client.get("/v1/inspect/" + base() + "/list?path=/nowhere"), 404);
  check(client.get("/v1/inspect/?tag=nothing"), 404);
  check(client.post("/v1/instances", json::value{{"command", "true"}, {"image", "tag:nothing"}}),
        404);
  check(client.post("/v1/instances", json::value{{"command", "true"}, {"image", id}}), 404);
  check(client.get("/v1/nothing"), 404);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_meant_is_400_and_names_the_field) {
  auto client = connect();
  auto spawn = [&](json::object with) {
    json::object request{{"command", "true"}, {"image", base()}};
    for (auto& [key, value] : with) {
      request[key] = value;
    }
    return client.post("/v1/instances", json::value(request));
  };
  check(client.post("/v1/instances", std::string{"{not json"}), 400);
  check(client.post("/v1/instances", json::value{{"image", base()}}), 400, "command");
  check(spawn({{"timeout", 0}}), 400, "timeout");
  check(spawn({{"timeout", 1 << 30}}), 400, "timeout");
  check(spawn({{"args", "x"}}), 400, "args");
  check(spawn({{"env", json::array{}}}), 400, "env");
  check(spawn({{"shell", "yes"}}), 400, "shell");
  check(spawn({{"stdin", json::object{{"value", "!!"}, {"encoding", "base64"}}}}), 400, "stdin");
  check(spawn({{"truncate_output_at", 1 << 30}}), 400, "truncate_output_at");
  check(spawn({{"files", json::object{{"/x", json::object{{"uuid", "zz"}}}}}}), 400, "files");
  check(client.post("/v1/images/import",
                    json::value{{"registry", json::object{{"url", "docker://a b"}}}}),
        400, "url");
  check(client.get("/v1/images?limit=0"), 400, "limit");
}

BOOST_AUTO_TEST_CASE(who_is_not_known_is_401) {
  auto client = connect();
  check(client.request("GET", "/v1/whoami", {}, {{"Authorization", "Bearer nonsense"}}), 401);
  check(client.request("GET", "/v1/images", {}, {{"Authorization", ""}}), 401);
}

BOOST_AUTO_TEST_CASE(paths_never_leave_the_image) {
  auto client = connect();
  auto at = [&](const std::string& path) {
    return client.get("/v1/inspect/" + base() + "/download?path=" + path);
  };
  auto own = at("/etc/os-release");
  BOOST_REQUIRE(own.status == 200u);
  BOOST_TEST(at("/../../../../etc/os-release").body == own.body);
  BOOST_TEST(at("/%2e%2e/%2e%2e/etc/os-release").body == own.body);
  check(at("/../../proc/version"), 404);
  auto image = result_image_of(
      server().shell(base(), "ln -s ../../../../etc/shadow /root/a; ln -s /root/loop /root/loop; "
                             "ln -s /etc/os-release /root/b"));
  auto follow = [&](const std::string& path) {
    return client.get("/v1/inspect/" + image + "/download?path=" + path);
  };
  check(follow("/root/a"), 404);
  BOOST_TEST(follow("/root/loop").status >= 400u);
  BOOST_TEST(follow("/root/b").body == own.body);
}

BOOST_AUTO_TEST_CASE(wrong_types_of_paths_are_422) {
  auto client = connect();
  check(client.get("/v1/inspect/" + base() + "/download?path=/etc"), 422);
  check(client.get("/v1/inspect/" + base() + "/list?path=/etc/passwd"), 422);
}

BOOST_AUTO_TEST_CASE(a_registry_that_cannot_be_reached_fails_the_operation_in_its_words) {
  auto client = connect();
  auto answer =
      client.post("/v1/images/import",
                  json::value{{"registry", json::object{{"url", "docker://127.0.0.1:1/x:y"}}},
                              {"timeout", 60}});
  BOOST_REQUIRE(answer.status == 201u);
  auto done = server().wait(std::string{answer.json().at("uuid").as_string()});
  BOOST_TEST(status_of(done) == "FAILED");
  BOOST_TEST(error_of(done).find("connection refused") != std::string::npos, error_of(done));
}
