#define BOOST_TEST_MODULE reclaim
#include "storage/disk/reclaim.hpp"
#include "storage/error.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace coppice::storage {

namespace {

using extents = std::vector<own_extent>;
using clusters = std::set<cluster_number>;

constexpr std::size_t disk_clusters = 400;
constexpr auto zeros = own_extent::zeros;

uuid image_number(std::uint64_t n) {
  return {0xaaaa000000004000ull, 0x8000000000000000ull | n};
}

std::uint64_t number_of(const uuid& image) {
  return image.lo & 0xffffffff;
}

/// Images with what each disk has, cluster by cluster: (image, cluster of its file).
struct family_fixture {
  struct member {
    std::uint64_t parent = 0;
    extents own;
    std::vector<std::pair<std::uint64_t, cluster_number>> disk;
    std::shared_ptr<const block_index> index;
    bool is_live = true;
  };

  void add(std::uint64_t id, std::uint64_t parent, const extents& own) {
    member made{parent, own, {}, nullptr, true};
    if (parent == 0) {
      made.disk.resize(disk_clusters);
      made.index = block_index::of_import(image_number(id), own);
    } else {
      made.disk = all.at(parent).disk;
      made.index = block_index::of_child(all.at(parent).index, image_number(id), own);
    }
    for (const auto& e : own) {
      for (cluster_number i = 0; i < e.count; ++i) {
        made.disk[e.guest + i] = {e.file == zeros ? 0 : id, e.file == zeros ? 0 : e.file + i};
      }
    }
    all.emplace(id, std::move(made));
  }

  file_family family() {
    return {[this](const uuid& image) -> result<std::vector<uuid>> {
              asked_for_children.insert(number_of(image));
              std::vector<uuid> out;
              for (const auto& [id, m] : all) {
                if (m.parent == number_of(image)) {
                  out.push_back(image_number(id));
                }
              }
              return out;
            },
            [this](const uuid& image) { return all.at(number_of(image)).is_live; },
            [this](const uuid& image) -> result<std::shared_ptr<const block_index>> {
              asked_for_index.insert(number_of(image));
              return all.at(number_of(image)).index;
            }};
  }

  result<extents> unseen(std::uint64_t id) {
    return unseen_clusters(image_number(id), all.at(id).own, family());
  }

  /// By looking at every cluster of every live disk.
  clusters expected(std::uint64_t id) const {
    clusters out;
    for (const auto& e : all.at(id).own) {
      for (cluster_number i = 0; e.file != zeros && i < e.count; ++i) {
        out.insert(e.file + i);
      }
    }
    for (const auto& [other, m] : all) {
      for (const auto& [image, file] : m.disk) {
        if (m.is_live && image == id) {
          out.erase(file);
        }
      }
    }
    return out;
  }

  std::map<std::uint64_t, member> all;
  std::set<std::uint64_t> asked_for_children;
  std::set<std::uint64_t> asked_for_index;
};

bool same(const result<extents>& answer, const extents& wanted) {
  return answer && *answer == wanted;
}

bool failed_with(const result<extents>& answer, ec code) {
  return !answer && answer.error().code == make_error_code(code) && !answer.error().text.empty();
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(reclaiming, family_fixture)

BOOST_AUTO_TEST_CASE(what_the_only_child_has_replaced_is_unseen) {
  add(1, 0, {{10, 20, 65}, {50, 5, 85}, {60, 5, zeros}});
  add(2, 1, {{15, 5, 65}, {45, 10, zeros}});
  all.at(1).is_live = false;
  BOOST_CHECK(same(unseen(1), {{15, 5, 70}, {50, 5, 85}}));
}

BOOST_AUTO_TEST_CASE(the_answer_is_in_the_order_of_the_file) {
  add(1, 0, {{10, 5, 100}, {20, 5, 65}, {30, 5, 70}});
  add(2, 1, {{0, 100, 65}});
  all.at(1).is_live = false;
  BOOST_CHECK(same(unseen(1), {{20, 5, 65}, {30, 5, 70}, {10, 5, 100}}));
}

BOOST_AUTO_TEST_CASE(pieces_that_several_images_have_replaced_are_one_run) {
  add(1, 0, {{10, 20, 65}});
  add(2, 1, {{10, 7, 65}});
  add(3, 2, {{17, 13, 65}});
  all.at(1).is_live = false;
  all.at(2).is_live = false;
  BOOST_CHECK(same(unseen(1), {{10, 20, 65}}));
}

BOOST_AUTO_TEST_CASE(each_live_child_keeps_what_it_sees) {
  add(1, 0, {{0, 30, 65}});
  add(2, 1, {{0, 20, 65}});
  add(3, 1, {{10, 20, 65}});
  all.at(1).is_live = false;
  BOOST_CHECK(same(unseen(1), {{10, 10, 75}}));
  all.at(3).is_live = false; // nothing stands on it
  BOOST_CHECK(same(unseen(1), {{0, 20, 65}}));
  all.at(2).is_live = false;
  BOOST_CHECK(same(unseen(1), {{0, 30, 65}}));
}

BOOST_AUTO_TEST_CASE(below_a_live_image_nothing_is_looked_at) {
  add(1, 0, {{0, 30, 65}});
  add(2, 1, {{0, 5, 65}});
  add(3, 2, {{5, 5, 65}});
  add(4, 3, {{10, 5, 65}});
  all.at(1).is_live = false;
  all.at(2).is_live = false;
  BOOST_CHECK(same(unseen(1), {{0, 10, 65}}));
  BOOST_CHECK((asked_for_children == std::set<std::uint64_t>{1, 2}));
  BOOST_CHECK((asked_for_index == std::set<std::uint64_t>{3}));
}

BOOST_AUTO_TEST_CASE(it_ends_when_all_of_the_file_is_seen) {
  add(1, 0, {{0, 30, 65}});
  for (std::uint64_t id = 2; id < 100; ++id) {
    add(id, 1, {{40, 1, 65}});
  }
  all.at(1).is_live = false;
  BOOST_CHECK(same(unseen(1), {}));
  BOOST_CHECK_EQUAL(asked_for_index.size(), 1);
}

BOOST_AUTO_TEST_CASE(a_live_file_and_one_that_stands_on_itself_are_refused) {
  add(1, 0, {{0, 30, 65}});
  add(2, 1, {{0, 5, 65}});
  BOOST_CHECK(failed_with(unseen(1), ec::conflict));
  all.at(1).is_live = false;
  all.at(2).is_live = false;
  all.at(1).parent = 2;
  BOOST_CHECK(failed_with(unseen(1), ec::damaged));
}

BOOST_AUTO_TEST_CASE(an_index_that_contradicts_the_file_is_damaged) {
  add(1, 0, {{0, 30, 65}});
  add(2, 1, {{0, 5, 65}});
  all.at(1).is_live = false;
  all.at(1).own = {{0, 30, 66}};
  BOOST_CHECK(failed_with(unseen(1), ec::damaged));
}

BOOST_AUTO_TEST_CASE(when_it_cannot_ask_it_names_nothing) {
  add(1, 0, {{0, 30, 65}});
  add(2, 1, {{0, 5, 65}});
  all.at(1).is_live = false;
  auto no_index = family();
  no_index.index_of = [](const uuid&) -> result<std::shared_ptr<const block_index>> {
    return fail(ec::not_found, "no index");
  };
  BOOST_CHECK(
      failed_with(unseen_clusters(image_number(1), all.at(1).own, no_index), ec::not_found));
  auto no_children = family();
  no_children.children_of = [](const uuid&) -> result<std::vector<uuid>> {
    return fail(ec::io, "no catalog");
  };
  BOOST_CHECK(failed_with(unseen_clusters(image_number(1), all.at(1).own, no_children), ec::io));
}

BOOST_AUTO_TEST_CASE(in_random_families_it_is_what_no_live_disk_has) {
  std::mt19937 random{23};
  auto below = [&](std::size_t n) {
    return static_cast<cluster_number>(random() % n);
  };
  std::size_t found = 0; // files with something unseen, and with something seen
  std::size_t kept = 0;
  for (unsigned round = 0; round < 60; ++round) {
    all.clear();
    for (std::uint64_t id = 1; id <= 40; ++id) {
      extents own;
      cluster_number file = 65;
      for (cluster_number at = below(40); at + 20 < disk_clusters; at += below(100)) {
        const auto count = 1 + below(20);
        const bool is_zeros = below(5) == 0;
        own.push_back({at, count, is_zeros ? zeros : file});
        file += is_zeros ? 0 : count + below(3);
        at += count;
      }
      add(id, id == 1 ? 0 : 1 + below(std::min<std::size_t>(id - 1, 12)), own);
    }
    for (auto& [id, m] : all) {
      m.is_live = below(3) == 0;
    }
    for (const auto& [id, m] : all) {
      if (m.is_live) {
        continue;
      }
      auto answer = unseen(id);
      BOOST_REQUIRE_MESSAGE(answer, answer.error().text);
      clusters named;
      for (const auto& e : *answer) {
        BOOST_REQUIRE(named.empty() || *named.rbegin() < e.file);
        for (cluster_number i = 0; i < e.count; ++i) {
          named.insert(e.file + i);
        }
      }
      const auto wanted = expected(id);
      BOOST_REQUIRE(named == wanted);
      found += named.empty() ? 0 : 1;
      const bool is_whole = std::all_of(m.own.begin(), m.own.end(), [&](const own_extent& e) {
        return e.file == zeros || (named.count(e.file) != 0 && named.count(e.file + e.count - 1));
      });
      kept += is_whole ? 0 : 1;
    }
  }
  BOOST_CHECK_GT(found, 100);
  BOOST_CHECK_GT(kept, 100);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace coppice::storage
