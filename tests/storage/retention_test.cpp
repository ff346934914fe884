#define BOOST_TEST_MODULE retention
#include "storage/retention.hpp"
#include "tests/storage/catalog_fixture.hpp"

#include <map>
#include <string>

namespace coppice::storage {

namespace {

constexpr std::int64_t day = 86'400'000'000'000;
constexpr std::int64_t now = 1000 * day;

struct retention_fixture : catalog_fixture {
  /// 1 ─ 2 ─ 3   all old;  4 alone and tagged;  5 alone, old;  6 of another project, a day old
  ///   └ 7
  retention_fixture() {
    put(image_of{1, now - 100 * day});
    put(image_of{2, now - 99 * day, "default", "", 1});
    put(image_of{3, now - 98 * day, "default", "", 2});
    put(image_of{4, now - 97 * day});
    tag(4, "kept:1");
    put(image_of{5, now - 96 * day});
    put(image_of{6, now - day, "other"});
    put(image_of{7, now - 95 * day, "default", "", 1});
  }

  std::map<std::uint64_t, keeper> judged(const retention_policy& policy) const {
    std::map<std::uint64_t, keeper> out;
    auto done = judge_images(*c, policy, now, [&](const image_fate& image) {
      out[image.id.lo & 0xffffffff] = image.why;
    });
    REQUIRE_OK(done);
    return out;
  }

  using fates = std::map<std::uint64_t, keeper>;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(judging, retention_fixture)

BOOST_AUTO_TEST_CASE(by_default_only_old_untagged_images_with_descendants_go) {
  BOOST_CHECK((judged({}) == fates{{1, keeper::none},
                                   {2, keeper::none},
                                   {3, keeper::leaf},
                                   {4, keeper::tagged},
                                   {5, keeper::leaf},
                                   {6, keeper::young},
                                   {7, keeper::leaf}}));
}

BOOST_AUTO_TEST_CASE(each_rule_can_be_given_up) {
  retention_policy policy;
  policy.keep_leaves = false;
  BOOST_CHECK(judged(policy).at(3) == keeper::none);
  BOOST_CHECK(judged(policy).at(4) == keeper::tagged);
  policy.keep_tagged = false;
  BOOST_CHECK(judged(policy).at(4) == keeper::none);
  BOOST_CHECK(judged(policy).at(6) == keeper::young);
  policy.keep_younger_than = std::chrono::seconds{0};
  for (const auto& [id, why] : judged(policy)) {
    BOOST_CHECK(why == keeper::none);
  }
  policy.keep_younger_than = std::chrono::hours{97 * 24 + 1};
  BOOST_CHECK(judged(policy).at(3) == keeper::none);
  BOOST_CHECK(judged(policy).at(4) == keeper::young);
}

BOOST_AUTO_TEST_CASE(an_image_is_kept_by_its_id_or_any_of_its_tags) {
  tag(5, "a");
  tag(5, "b");
  retention_policy policy;
  policy.keep_tagged = false;
  policy.keep_leaves = false;
  policy.keep = {"b", id_number(2).text(), "nowhere"};
  auto all = judged(policy);
  BOOST_CHECK(all.at(5) == keeper::named);
  BOOST_CHECK(all.at(2) == keeper::named);
  BOOST_CHECK(all.at(4) == keeper::none);
}

BOOST_AUTO_TEST_CASE(what_an_operation_waits_for_is_kept) {
  auto waiting = operation_of{50, now}.record();
  capnp::MallocMessageBuilder message;
  message.setRoot(*waiting.view());
  auto record = message.getRoot<proto::OperationRecord>();
  id_number(1).to(record.getRequest().getInstance().initImage());
  write([&](catalog::transaction& t) { REQUIRE_OK(t.put_operation(record.asReader())); });
  BOOST_CHECK(judged({}).at(1) == keeper::in_use);
}

BOOST_AUTO_TEST_CASE(an_image_whose_only_children_are_dead_but_needed_is_no_leaf) {
  write([](catalog::transaction& t) {
    REQUIRE_OK(t.delete_image("default", id_number(7)));
    REQUIRE_OK(t.delete_image("default", id_number(2)));
  });
  BOOST_CHECK(judged({}).at(1) == keeper::none);
  write([](catalog::transaction& t) { REQUIRE_OK(t.delete_image("default", id_number(3))); });
  BOOST_CHECK(judged({}).at(1) == keeper::leaf);
}

BOOST_AUTO_TEST_CASE(more_images_than_a_page_has_are_all_judged) {
  write([](catalog::transaction& t) {
    for (std::uint64_t id = 100; id < 100 + 2 * catalog::page_rows_max; ++id) {
      REQUIRE_OK(t.put_image(*image_of{id, now - 50 * day}.record().view()));
    }
  });
  BOOST_CHECK_EQUAL(judged({}).size(), 7 + 2 * catalog::page_rows_max);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace coppice::storage
