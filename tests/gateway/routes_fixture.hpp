#pragma once

#include "tests/gateway/server_fixture.hpp"

#include <algorithm>
#include <string>
#include <vector>

/// What tests of several routes send and look at.
namespace coppice::test {

inline const std::string no_digest(64, 'a');

inline json::object run_order() {
  return {{"command", "true"}, {"image", "tag:base"}};
}

inline std::vector<std::string> keys(const json::value& object) {
  std::vector<std::string> out;
  for (const auto& member : object.as_object()) {
    out.emplace_back(member.key());
  }
  std::sort(out.begin(), out.end());
  return out;
}

} // namespace coppice::test
