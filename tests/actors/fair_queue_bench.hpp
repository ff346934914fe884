#pragma once

#include "actors/fair_queue.hpp"

#include <boost/test/unit_test.hpp>

#include <cstdint>
#include <string>
#include <vector>

/// What tests of the queue of runs start from.
namespace coppice::test {

/// Ids that a failing test can show.
inline uuid numbered(std::uint64_t n) {
  return {1, n};
}

struct bench {
  fair_queue queue;
  std::uint64_t made = 0;

  explicit bench(fair_queue::capacity total) {
    queue.set_capacity(total);
  }

  uuid add(const std::string& project, fair_queue::demand needs = {1, 100},
           std::int32_t priority = 0) {
    auto id = numbered(++made);
    BOOST_TEST_REQUIRE(queue.add({id, project, needs, priority}));
    return id;
  }

  std::vector<uuid> grant_all() {
    std::vector<uuid> out;
    while (auto id = queue.grant()) {
      out.push_back(*id);
    }
    return out;
  }
};

inline constexpr fair_queue::capacity one_slot{1, 1, 1000};
inline constexpr fair_queue::capacity four_slots{4, 4, 4000};

} // namespace coppice::test
