#define BOOST_TEST_MODULE registry
#include "tests/integration/node.hpp"

#include <boost/test/unit_test.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

using namespace coppice::test;
namespace fs = std::filesystem;
namespace json = boost::json;

namespace {

/// Runs tests/integration/registry.sh, which makes a Debian image with python3 from packages and
/// serves it from the packaged registry on loopback; stopped at the end.
class registry {
public:
  explicit registry(const fs::path& folder) : folder_{folder} {
    auto script = source_dir() / "tests" / "integration" / "registry.sh";
    BOOST_REQUIRE_MESSAGE(
        std::system((script.string() + " start " + folder_.string() + " >&2").c_str()) == 0,
        "the registry could not be started");
    std::ifstream in{folder_ / "address"};
    std::getline(in, address_);
    BOOST_REQUIRE(!address_.empty());
  }

  ~registry() {
    auto script = source_dir() / "tests" / "integration" / "registry.sh";
    static_cast<void>(std::system((script.string() + " stop " + folder_.string()).c_str()));
  }

  const std::string& address() const {
    return address_;
  }

private:
  fs::path folder_;
  std::string address_;
};

json::object import(const node& server, const std::string& url, json::object more = {}) {
  json::object request{{"registry", json::object{{"url", url}}}, {"timeout", 900}};
  for (auto& [key, value] : more) {
    request[key] = value;
  }
  auto answer = server.connect().post("/v1/images/import", json::value(request));
  BOOST_REQUIRE_MESSAGE(answer.status == 201, answer.body);
  return server.wait(std::string{answer.json().at("uuid").as_string()});
}

} // namespace

BOOST_AUTO_TEST_CASE(a_debian_image_with_python_comes_from_a_registry_and_runs) {
  state_folder images;
  registry source{images.path()};
  state_folder folder;
  node server{folder.path(), {"--import.insecure_registries=" + source.address()}};
  auto url = "docker://" + source.address() + "/debian:python";

  auto done = import(server, url, {{"tag", "debian:python"}});
  BOOST_REQUIRE_MESSAGE(status_of(done) == "SUCCESS", error_of(done));
  auto image = result_image_of(done);
  BOOST_TEST(std::string{done.at("result").at("tag").as_string()} == "debian:python");

  auto client = server.connect();
  auto upload = [&](const std::string& bytes) {
    auto answer = client.request("POST", "/v1/files", bytes);
    BOOST_REQUIRE(answer.status == 201u);
    return json::object{{"uuid", answer.json().at("uuid")}};
  };
  json::object files;
  files["/job/sum.py"] = upload("import json, sys\n"
                                "rows = [int(line) for line in open('/job/rows')]\n"
                                "json.dump({'sum': sum(rows), 'python': sys.version_info[0]},\n"
                                "          open('/job/out.json', 'w'))\n"
                                "print('rows', len(rows))\n");
  files["/job/rows"] = upload("1\n2\n39\n");
  auto ran = server.run({{"command", "python3"},
                         {"args", json::array{"/job/sum.py"}},
                         {"image", "tag:debian:python"},
                         {"files", files},
                         {"timeout", 300}});
  BOOST_REQUIRE_MESSAGE(status_of(ran) == "SUCCESS", error_of(ran));
  BOOST_TEST(stdout_of(ran) == "rows 3\n", stderr_of(ran));
  auto out = client.get("/v1/inspect/" + result_image_of(ran) + "/download?path=/job/out.json");
  BOOST_TEST(out.body == R"({"sum": 42, "python": 3})");

  // The same manifest again is the same image.
  auto again = import(server, url);
  BOOST_TEST(status_of(again) == "SUCCESS");
  BOOST_TEST(result_image_of(again) == image);

  // The registry's own words.
  auto missing = import(server, "docker://" + source.address() + "/debian:nothing");
  BOOST_TEST(status_of(missing) == "FAILED");
  BOOST_TEST(error_of(missing).find("manifest unknown") != std::string::npos, error_of(missing));

  // Over HTTPS a plain registry cannot be spoken to, and that is said.
  node* strict = nullptr;
  state_folder other;
  strict = new node{other.path()};
  auto refused = import(*strict, url);
  BOOST_TEST(status_of(refused) == "FAILED");
  BOOST_TEST(error_of(refused).find("HTTP") != std::string::npos, error_of(refused));
  delete strict;
}
