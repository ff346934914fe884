#define BOOST_TEST_MODULE catalog_request_keys
#include "catalog_fixture.hpp"
#include "storage/catalog_request_keys.hpp"

#include <chrono>

namespace coppice::storage {

namespace {

constexpr std::int64_t day_ns = request_key_age_max_ns;

frame<proto::RequestKey> key_named(char name, char request) {
  return make_frame<proto::RequestKey>([&](proto::RequestKey::Builder to) {
    std::memset(to.initKey(32).begin(), name, 32);
    std::memset(to.initDigest(32).begin(), request, 32);
  });
}

struct keys_fixture : catalog_fixture {
  std::int64_t now = std::chrono::duration_cast<std::chrono::nanoseconds>(
                         std::chrono::system_clock::now().time_since_epoch())
                         .count();

  result<void> start(std::uint64_t id, char name, char request, const char* project = "default") {
    auto t = c->begin();
    REQUIRE_OK(t);
    auto record = operation_of{.id = id, .created = now, .project = project}.record();
    auto key = key_named(name, request);
    auto done = t->put_operation(*record.view(), *key.view());
    if (done) {
      REQUIRE_OK(t->commit());
    }
    return done;
  }

  /// The operation that the request has started, with "!" if it was another request; 0: none.
  std::string found(char name, char request, const char* project = "default") {
    auto asked = make_frame<proto::FindRequest>([&](proto::FindRequest::Builder to) {
      to.setProject(project);
      to.setKey(*key_named(name, request).view());
    });
    auto row = c->find_request(*asked.view());
    if (!row) {
      BOOST_CHECK(failed_with(row, ec::not_found));
      return {};
    }
    auto view = row->view();
    return std::to_string(uuid::from(view->getOperation().getId()).lo & 0xffffffff) +
           (view->getSame() ? "" : "!");
  }
};

/// The functions below the catalog, whose clock the test sets.
struct clock_fixture : catalog_fixture {
  result<lmdb::environment> env =
      (c.reset(), lmdb::environment::open(folder.path / "catalog", {1u << 30, 64, 16}));
  result<lmdb::transaction> in = lmdb::transaction::begin(*env, lmdb::mode::write);
  result<tables> t = tables::open(*in);

  result<void> remember(char name, std::int64_t at, std::uint64_t keys_max = request_keys_max,
                        const char* project = "default") {
    return remember_request(*in, *t, project, *key_named(name, 'r').view(), id_number(1), at,
                            keys_max);
  }
  bool is_known(char name, std::int64_t at) {
    return find_request(*in, *t, "default", *key_named(name, 'r').view(), at).has_value();
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(kept, keys_fixture)

BOOST_AUTO_TEST_CASE(a_request_is_known_with_the_operation_that_it_started) {
  BOOST_TEST(found('k', 'r') == "");
  REQUIRE_OK(start(1, 'k', 'r'));
  reopen();
  BOOST_TEST(found('k', 'r') == "1");
  BOOST_TEST(found('k', 's') == "1!");
  BOOST_TEST(found('l', 'r') == "");
  BOOST_TEST(found('k', 'r', "other") == "");
}

BOOST_AUTO_TEST_CASE(a_key_starts_one_operation_and_the_second_leaves_nothing) {
  REQUIRE_OK(start(1, 'k', 'r'));
  BOOST_CHECK(failed_with(start(2, 'k', 'r'), ec::conflict));
  BOOST_CHECK(failed_with(start(2, 'k', 's'), ec::conflict));
  BOOST_CHECK(failed_with(operation(2), ec::not_found));
  REQUIRE_OK(start(3, 'k', 'r', "other"));
  BOOST_TEST(found('k', 'r') == "1");
}

BOOST_AUTO_TEST_CASE(an_operation_that_is_not_committed_leaves_its_key_free) {
  {
    auto t = c->begin();
    REQUIRE_OK(t);
    auto record = operation_of{.id = 1, .created = 5}.record();
    REQUIRE_OK(t->put_operation(*record.view(), *key_named('k', 'r').view()));
  }
  REQUIRE_OK(start(2, 'k', 'r'));
}

BOOST_AUTO_TEST_CASE(a_file_may_come_again_and_another_file_may_not) {
  auto put = [&](std::uint64_t id, char digest, char request) {
    auto t = c->begin();
    REQUIRE_OK(t);
    auto file = make_frame<proto::PutFile>([&](proto::PutFile::Builder to) {
      auto record = to.initRecord();
      id_number(id).to(record.initId());
      record.setProject("default");
      std::memset(record.initSha256(32).begin(), digest, 32);
      record.setUpdatedAtUnixNs(now);
      to.setKey(*key_named('k', request).view());
    });
    auto stored = t->put_file(*file.view());
    if (stored) {
      REQUIRE_OK(t->commit());
    }
    return stored;
  };
  REQUIRE_OK(put(1, 'a', 'a'));
  REQUIRE_OK(put(2, 'a', 'a'));
  BOOST_CHECK(failed_with(put(3, 'b', 'b'), ec::conflict));
  BOOST_CHECK(failed_with(start(1, 'k', 'r'), ec::conflict));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(forgotten, clock_fixture)

BOOST_AUTO_TEST_CASE(a_key_is_free_again_after_a_day) {
  REQUIRE_OK(remember('a', 1000));
  BOOST_TEST(is_known('a', 1000 + day_ns - 1));
  BOOST_TEST(!is_known('a', 1000 + day_ns));
  BOOST_CHECK(failed_with(remember('a', 1000 + day_ns - 1), ec::conflict));
  REQUIRE_OK(remember('a', 1000 + day_ns));
  BOOST_TEST(is_known('a', 1000 + day_ns));
}

BOOST_AUTO_TEST_CASE(a_project_has_a_limited_number_until_they_are_forgotten) {
  for (char name : {'a', 'b', 'c'}) {
    REQUIRE_OK(remember(name, 1000, 3));
  }
  BOOST_CHECK(failed_with(remember('d', 1001, 3), ec::busy));
  REQUIRE_OK(remember('d', 1001, 3, "other"));
  REQUIRE_OK(remember('d', 1000 + day_ns, 3));
  REQUIRE_OK(remember('e', 1000 + day_ns, 3)); // all three were forgotten with the first
  REQUIRE_OK(remember('f', 1000 + day_ns, 3));
  BOOST_CHECK(failed_with(remember('g', 1000 + day_ns, 3), ec::busy));
  BOOST_TEST(is_known('d', 1000 + day_ns));
}

BOOST_AUTO_TEST_CASE(a_refusal_keeps_the_count_true) {
  for (char name : {'a', 'b'}) {
    REQUIRE_OK(remember(name, 1000, 2));
  }
  for (int i = 0; i < 5; ++i) {
    BOOST_CHECK(failed_with(remember('c', 1001, 2), ec::busy));
  }
  REQUIRE_OK(remember('c', 1001, 3));
  BOOST_CHECK(failed_with(remember('d', 1001, 3), ec::busy));
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace coppice::storage
