#pragma once

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

/// docs/openapi.yaml as text. Its layout is fixed: two spaces a level, lists at the level of the
/// key they belong to, schemas under `components` with four spaces before their names.
namespace coppice::test {

struct description_line {
  std::size_t indent = 0;
  std::string text; ///< without indent and the dash of a list
};

inline std::vector<description_line> description_lines() {
  std::ifstream in{COPPICE_SOURCE_DIR "/docs/openapi.yaml"};
  BOOST_REQUIRE(in.is_open());
  std::vector<description_line> all;
  for (std::string line; std::getline(in, line);) {
    auto first = std::min(line.find_first_not_of(' '), line.size());
    if (line.substr(first).starts_with("- ")) {
      first += 2;
    }
    if (first < line.size()) {
      all.push_back({first, line.substr(first)});
    }
  }
  return all;
}

/// The names of the members that a schema of components describes; empty: there is no such schema.
inline std::vector<std::string> described_members(const std::string& schema) {
  std::vector<std::string> out;
  bool is_schema = false;
  bool is_properties = false;
  for (const auto& line : description_lines()) {
    if (line.indent <= 4) {
      is_schema = line.indent == 4 && line.text == schema + ":";
    }
    if (line.indent <= 6) {
      is_properties = is_schema && line.text == "properties:";
    }
    if (is_properties && line.indent == 8 && line.text.ends_with(':')) {
      out.push_back(line.text.substr(0, line.text.size() - 1));
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

} // namespace coppice::test
