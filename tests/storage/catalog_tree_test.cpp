#define BOOST_TEST_MODULE catalog_tree
#include "catalog_lineage_fixture.hpp"

#include "storage/catalog_tree.hpp"

#include <sstream>

namespace coppice::storage {

namespace {

struct tree_fixture : lineage_fixture {
  //  1 ── 2 ── 4 ── 7 ── 8
  //   \     └─ 5
  //    └─ 3 ── 6
  tree_fixture() {
    put(1, 0, 0);
    for (auto [id, parent] : {std::pair{2, 1}, {3, 1}, {4, 2}, {5, 2}, {6, 3}, {7, 4}, {8, 7}}) {
      put(static_cast<std::uint64_t>(id), static_cast<std::uint64_t>(parent), 1);
    }
  }

  struct ask {
    std::uint64_t from = 1;
    bool is_upwards = false;
    std::uint32_t distance_max = 100;
    std::uint32_t limit = 100;
    std::uint64_t offset = 0;
  };

  /// "image<parent@distance" for each, then "+" when there is more.
  std::string walk(const ask& a) const {
    auto found = c->walk_tree(*make_frame<proto::WalkTree>([&](proto::WalkTree::Builder to) {
                                 to.setProject("default");
                                 id_number(a.from).to(to.initImage());
                                 to.setUpwards(a.is_upwards);
                                 to.setDistanceMax(a.distance_max);
                                 to.setLimit(a.limit);
                                 to.setOffset(a.offset);
                               }).view());
    REQUIRE_OK(found);
    auto number = [](proto::Uuid::Reader id) {
      return uuid::from(id).lo & 0xffffffff;
    };
    std::ostringstream out;
    auto view = found->view();
    for (auto node : view->getNodes()) {
      out << number(node.getRow().getImage().getId()) << '<' << number(node.getParent()) << '@'
          << node.getDistance() << ' ';
    }
    out << (view->getTruncated() ? "+" : "");
    return out.str();
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(trees, tree_fixture)

BOOST_AUTO_TEST_CASE(ancestors_come_nearest_first) {
  BOOST_TEST(walk({.from = 8, .is_upwards = true}) == "7<4@1 4<2@2 2<1@3 1<0@4 ");
  BOOST_TEST(walk({.from = 1, .is_upwards = true}) == "");
  BOOST_TEST(walk({.from = 8, .is_upwards = true, .limit = 2}) == "7<4@1 4<2@2 +");
  BOOST_TEST(walk({.from = 8, .is_upwards = true, .limit = 2, .offset = 2}) == "2<1@3 1<0@4 ");
  BOOST_TEST(walk({.from = 8, .is_upwards = true, .offset = 9}) == "");
  BOOST_TEST(walk({.from = 8, .is_upwards = true, .distance_max = 1}) == "7<4@1 ");
}

BOOST_AUTO_TEST_CASE(descendants_come_by_distance) {
  BOOST_TEST(walk({}) == "2<1@1 3<1@1 4<2@2 5<2@2 6<3@2 7<4@3 8<7@4 ");
  BOOST_TEST(walk({.distance_max = 1}) == "2<1@1 3<1@1 ");
  BOOST_TEST(walk({.distance_max = 2}) == "2<1@1 3<1@1 4<2@2 5<2@2 6<3@2 ");
  BOOST_TEST(walk({.from = 8}) == "");
}

BOOST_AUTO_TEST_CASE(pages_of_descendants_meet_without_gap_or_repeat) {
  BOOST_TEST(walk({.limit = 3}) == "2<1@1 3<1@1 4<2@2 +");
  BOOST_TEST(walk({.limit = 3, .offset = 3}) == "5<2@2 6<3@2 7<4@3 +");
  BOOST_TEST(walk({.limit = 3, .offset = 6}) == "8<7@4 ");
  BOOST_TEST(walk({.limit = 7}) == "2<1@1 3<1@1 4<2@2 5<2@2 6<3@2 7<4@3 8<7@4 ");
  BOOST_TEST(walk({.limit = 3, .offset = UINT64_MAX}) == "");
}

BOOST_AUTO_TEST_CASE(deleted_images_are_looked_through) {
  for (auto id : {2, 4, 7}) {
    remove(static_cast<std::uint64_t>(id));
  }
  BOOST_TEST(walk({.from = 8, .is_upwards = true}) == "1<0@1 ");
  BOOST_TEST(walk({.distance_max = 1}) == "3<1@1 5<1@1 8<1@1 ");
  BOOST_TEST(walk({}) == "3<1@1 5<1@1 8<1@1 6<3@2 ");
  remove(1);
  BOOST_TEST(walk({.from = 6, .is_upwards = true}) == "3<0@1 ");
}

BOOST_AUTO_TEST_CASE(what_stands_on_deleted_images_keeps_their_order) {
  for (auto id : {2, 3}) {
    remove(static_cast<std::uint64_t>(id));
  }
  BOOST_TEST(walk({}) == "4<1@1 5<1@1 6<1@1 7<4@2 8<7@3 ");
}

BOOST_AUTO_TEST_CASE(a_walk_looks_at_a_limited_number_of_images) {
  c.reset();
  auto env = lmdb::environment::open(folder.path / "catalog", {1u << 30, 32, 16});
  REQUIRE_OK(env);
  auto in = lmdb::transaction::begin(*env, lmdb::mode::write); // which may open tables
  REQUIRE_OK(in);
  auto t = tables::open(*in);
  REQUIRE_OK(t);
  tree_bounds bounds{.distance_max = 100, .limit = 100, .visits_max = 4};
  auto down = walk_descendants(*in, *t, id_number(1), bounds);
  BOOST_TEST(down.nodes.size() == 4u);
  BOOST_TEST(down.is_truncated);
  BOOST_TEST(down.is_too_large);
  bounds.offset = 4;
  down = walk_descendants(*in, *t, id_number(1), bounds);
  BOOST_TEST(down.nodes.empty());
  BOOST_TEST(down.is_too_large); // which a larger offset would not mend
  bounds.offset = 0;
  bounds.visits_max = 2;
  auto up = walk_ancestors(*in, *t, id_number(8), bounds);
  BOOST_TEST(up.nodes.size() == 2u);
  BOOST_TEST(up.is_truncated);
}

BOOST_AUTO_TEST_CASE(another_projects_tree_is_not_there) {
  auto found = c->walk_tree(*make_frame<proto::WalkTree>([&](proto::WalkTree::Builder to) {
                               to.setProject("other");
                               id_number(1).to(to.initImage());
                               to.setLimit(1);
                             }).view());
  BOOST_CHECK(failed_with(found, ec::not_found));
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace coppice::storage
