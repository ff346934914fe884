#include "tests/actors/fair_queue_bench.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

using namespace coppice;
using namespace coppice::test;

namespace {

using demand = fair_queue::demand;

/// The same promises, written down without any care for cost.
class model {
public:
  struct run {
    fair_queue::request wanted;
    std::int64_t level = 0;
    std::uint64_t arrival = 0;
    bool is_running = false;
  };
  struct side {
    std::int64_t grants = 0;
    std::uint64_t last = 0;
    std::uint64_t joined = 0;
  };

  explicit model(fair_queue::capacity total) : total_{total} {}

  void add(const fair_queue::request& wanted) {
    auto& s = sides_[wanted.project];
    auto arrival = ++arrivals_;
    if (waiting_of(wanted.project).empty()) {
      s.last = std::max(s.last, 2 * grants_);
      s.joined = arrival;
    }
    runs_.push_back(
        {wanted, s.grants - wanted.priority * fair_queue::grants_per_level, arrival, false});
  }

  void remove(const uuid& id) {
    auto it =
        std::find_if(runs_.begin(), runs_.end(), [&](const run& r) { return r.wanted.id == id; });
    auto project = it->wanted.project;
    runs_.erase(it);
    if (std::none_of(runs_.begin(), runs_.end(),
                     [&](const run& r) { return r.wanted.project == project; })) {
      sides_.erase(project);
    }
  }

  std::optional<uuid> grant() {
    std::vector<run*> heads;
    for (const auto& [project, s] : sides_) {
      auto waiting = waiting_of(project);
      if (!waiting.empty()) {
        heads.push_back(waiting.front());
      }
    }
    std::sort(heads.begin(), heads.end(), [&](run* a, run* b) {
      return turn_of(a->wanted.project) < turn_of(b->wanted.project);
    });
    auto chosen = std::find_if(heads.begin(), heads.end(), [&](run* r) { return fits(*r); });
    if (chosen == heads.end()) {
      return std::nullopt;
    }
    if (chosen == heads.begin()) {
      passes_ = 0;
    } else if (passes_ == fair_queue::passes_max) {
      return std::nullopt;
    } else {
      ++passes_;
    }
    auto& s = sides_[(*chosen)->wanted.project];
    (*chosen)->is_running = true;
    ++s.grants;
    s.last = 2 * ++grants_ + 1;
    return (*chosen)->wanted.id;
  }

  std::optional<std::size_t> position(const uuid& id) {
    for (const auto& [project, s] : sides_) {
      auto waiting = waiting_of(project);
      for (std::size_t i = 0; i < waiting.size(); ++i) {
        if (waiting[i]->wanted.id == id) {
          return i + 1;
        }
      }
    }
    return std::nullopt;
  }

  fair_queue::capacity used(const std::string* project = nullptr) const {
    fair_queue::capacity out;
    for (const auto& r : runs_) {
      if (r.is_running && (!project || r.wanted.project == *project)) {
        ++out.running;
        out.cpus += r.wanted.needs.cpus;
        out.memory_mib += r.wanted.needs.memory_mib;
      }
    }
    return out;
  }

private:
  std::vector<run*> waiting_of(const std::string& project) {
    std::vector<run*> out;
    for (auto& r : runs_) {
      if (!r.is_running && r.wanted.project == project) {
        out.push_back(&r);
      }
    }
    std::sort(out.begin(), out.end(), [](run* a, run* b) {
      return std::pair{a->level, a->arrival} < std::pair{b->level, b->arrival};
    });
    return out;
  }

  std::array<std::uint64_t, 3> turn_of(const std::string& project) const {
    auto u = used(&project);
    const auto& s = sides_.at(project);
    return {
        std::max(u.cpus * 1'000'000 / total_.cpus, u.memory_mib * 1'000'000 / total_.memory_mib),
        s.last, s.joined};
  }

  bool fits(const run& r) const {
    auto u = used();
    return u.running < total_.running && u.cpus + r.wanted.needs.cpus <= total_.cpus &&
           u.memory_mib + r.wanted.needs.memory_mib <= total_.memory_mib;
  }

  fair_queue::capacity total_;
  std::vector<run> runs_;
  std::map<std::string, side> sides_;
  std::uint64_t arrivals_ = 0;
  std::uint64_t grants_ = 0;
  std::uint32_t passes_ = 0;
};

} // namespace

BOOST_AUTO_TEST_SUITE(fair_queue_model)

BOOST_AUTO_TEST_CASE(random_arrivals_and_ends_follow_the_model) {
  const std::array<std::string, 5> projects{"a", "b", "c", "d", "e"};
  const std::array<demand, 4> sizes{demand{1, 256}, demand{1, 1024}, demand{2, 512},
                                    demand{4, 2048}};
  for (unsigned seed = 1; seed <= 20; ++seed) {
    std::mt19937 random{seed};
    auto below = [&](std::size_t n) {
      return static_cast<std::size_t>(random() % n);
    };
    const fair_queue::capacity total{1 + static_cast<std::uint32_t>(below(8)), 4 + below(5), 4096};
    fair_queue queue;
    queue.set_capacity(total);
    model expected{total};
    std::vector<uuid> known;
    std::uint64_t made = 0;
    for (int step = 0; step < 1500; ++step) {
      if (below(100) < 52 || known.empty()) {
        const auto& project = projects[std::min(below(5), below(5))];
        auto size = sizes[below(100) < 70 ? 0 : below(4)];
        auto priority = below(3) == 0 ? static_cast<std::int32_t>(below(21)) - 10 : 0;
        fair_queue::request wanted{numbered(++made), project, size, priority};
        BOOST_TEST_REQUIRE(queue.add(wanted));
        expected.add(wanted);
        known.push_back(wanted.id);
      } else {
        auto at = known.begin() + static_cast<std::ptrdiff_t>(below(known.size()));
        if (below(10) < 7) { // rather what runs than what waits
          at = std::find_if(known.begin(), known.end(),
                            [&](const uuid& id) { return !queue.position(id); });
          at = at == known.end() ? known.begin() : at;
        }
        BOOST_TEST_REQUIRE(queue.remove(*at));
        expected.remove(*at);
        known.erase(at);
      }
      std::optional<uuid> granted;
      do {
        granted = queue.grant();
        auto wanted = expected.grant();
        BOOST_TEST_REQUIRE((granted == wanted), "seed " << seed << ", step " << step);
      } while (granted);
      if (!known.empty()) {
        const auto& asked = known[below(known.size())];
        BOOST_TEST_REQUIRE((queue.position(asked) == expected.position(asked)));
      }
      BOOST_TEST_REQUIRE(queue.running_count() == expected.used().running);
      BOOST_TEST_REQUIRE(queue.waiting_count() + queue.running_count() == known.size());
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
