#define BOOST_TEST_MODULE gateway_description
#include <boost/test/unit_test.hpp>

#include "gateway/http/router.hpp"
#include "gateway/page/assets.hpp"
#include "tests/gateway/description.hpp"

#include <algorithm>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>

using namespace coppice::gateway;

namespace {

/// `/images/{imageUUID}` as routes have it.
std::string without_names(const std::string& path) {
  return std::regex_replace(path, std::regex{R"(\{[^}]*\})"}, "{}");
}

/// "GET /v1/images/{}" of all that docs/openapi.yaml describes. Its layout is fixed: paths are
/// indented by two, their methods by four, and those outside of /v1 have servers of their own.
std::set<std::string> described() {
  std::ifstream in{COPPICE_SOURCE_DIR "/docs/openapi.yaml"};
  BOOST_REQUIRE(in.is_open());
  std::set<std::string> all;
  std::string line;
  std::string path;
  std::string prefix;
  bool is_in_paths = false;
  const std::regex path_line{R"(^  (/\S*):$)"};
  const std::regex method_line{R"(^    (get|put|post|delete|patch|head):$)"};
  while (std::getline(in, line)) {
    std::smatch match;
    if (!line.empty() && line.front() != ' ' && line.front() != '-') {
      is_in_paths = line == "paths:";
    } else if (is_in_paths && std::regex_match(line, match, path_line)) {
      path = without_names(match[1]);
      prefix = "/v1";
    } else if (is_in_paths && line == "    servers:") {
      prefix.clear();
    } else if (is_in_paths && std::regex_match(line, match, method_line)) {
      std::string method = match[1];
      std::transform(method.begin(), method.end(), method.begin(),
                     [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
      all.insert((method == "HEAD" ? "GET" : method) + " " + prefix + path);
    }
  }
  return all;
}

} // namespace

BOOST_AUTO_TEST_CASE(every_address_is_described_and_every_description_is_an_address) {
  std::set<std::string> served;
  for (const auto& route : routes()) {
    if (route.open_to != audience::operators) {
      served.insert(std::string{route.method} + " " + std::string{route.pattern});
    }
  }
  const auto all = described();
  for (const auto& one : served) {
    BOOST_TEST(all.contains(one), one << " is not in docs/openapi.yaml");
  }
  for (const auto& one : all) {
    BOOST_TEST(served.contains(one), one << " is described and not served");
  }
}

/// Whether the mapping that has the line also says what is in it.
bool has_members(const std::vector<coppice::test::description_line>& lines, std::size_t at) {
  auto is_sibling = [&](std::size_t i) {
    return lines[i].indent == lines[at].indent;
  };
  auto says = [&](std::size_t i) {
    for (const auto* key : {"properties:", "additionalProperties:", "allOf:", "oneOf:"}) {
      if (is_sibling(i) && lines[i].text == key) {
        return true;
      }
    }
    return false;
  };
  for (auto i = at; i > 0 && lines[i].indent >= lines[at].indent; --i) {
    if (says(i)) {
      return true;
    }
  }
  for (auto i = at; i < lines.size() && lines[i].indent >= lines[at].indent; ++i) {
    if (says(i)) {
      return true;
    }
  }
  return false;
}

BOOST_AUTO_TEST_CASE(every_object_is_described_with_its_members) {
  const auto lines = coppice::test::description_lines();
  std::size_t objects = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].text == "type: object") {
      ++objects;
      BOOST_TEST(has_members(lines, i), "an object without members, the " << objects << "th");
    }
  }
  BOOST_TEST(objects > 40u);
}

BOOST_AUTO_TEST_CASE(the_description_is_served_as_it_is) {
  std::ifstream in{COPPICE_SOURCE_DIR "/docs/openapi.yaml"};
  std::ostringstream text;
  text << in.rdbuf();
  const auto all = assets();
  BOOST_REQUIRE(!all.empty());
  BOOST_TEST(all.front().path == "/openapi.yaml");
  BOOST_TEST((all.front().content == text.str()));
}

BOOST_AUTO_TEST_CASE(the_page_loads_nothing_from_elsewhere) {
  for (const auto& one : assets()) {
    BOOST_TEST(!one.content.empty(), one.path);
    if (one.path == "/docs") {
      const std::string text{one.content};
      const std::regex outside{R"((src|href)="(?!/docs/|/openapi\.yaml|data:))"};
      BOOST_TEST(!std::regex_search(text, outside));
    }
  }
}
