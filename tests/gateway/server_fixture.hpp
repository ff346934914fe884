#pragma once

#include "gateway/http/server.hpp"
#include "tests/gateway/inside_double.hpp"
#include "tests/support/http_client.hpp"

#include <boost/json/object.hpp>
#include <boost/test/unit_test.hpp>

#include <spdlog/spdlog.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

namespace coppice::test {

namespace json = boost::json;

/// The real server on a free port of the loopback, over a doubled inside.
struct server_fixture {
  server_fixture() {
    spdlog::set_level(spdlog::level::err); // a line a request is noise here
    std::string name = (std::filesystem::temp_directory_path() / "coppice-http-XXXXXX").string();
    BOOST_REQUIRE(::mkdtemp(name.data()));
    folder = name;
  }

  ~server_fixture() {
    server.reset();
    std::filesystem::remove_all(folder);
  }

  /// Settings may be changed before the first call.
  gateway::http_server& running() {
    if (!server) {
      auto started =
          gateway::http_server::start({"127.0.0.1:0", folder / "admin.sock"}, inside.services());
      if (started.has_error()) {
        BOOST_FAIL(started.error().text);
      }
      server = std::move(*started);
    }
    return *server;
  }

  http_client client(const std::string& token = "secret") {
    return http_client{running().port(), token};
  }

  http_client operator_client() {
    running();
    return http_client{(folder / "admin.sock").string()};
  }

  inside_double inside;
  std::filesystem::path folder;
  std::unique_ptr<gateway::http_server> server;
};

inline std::string text(const json::value& value) {
  return {value.as_string().data(), value.as_string().size()};
}

/// The `error` of a refusal, whose `status` must be that of the reply.
inline std::string error_of(const http_answer& answer) {
  auto body = answer.json().as_object();
  BOOST_TEST(body.at("status").as_int64() == answer.status);
  return text(body.at("error"));
}

inline bool mentions(const std::string& where, const std::string& what) {
  return where.find(what) != std::string::npos;
}

} // namespace coppice::test
