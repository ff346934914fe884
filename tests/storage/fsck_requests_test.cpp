#define BOOST_TEST_MODULE fsck_requests
#include "storage/catalog_request_keys.hpp"
#include "tests/storage/upkeep_fixture.hpp"

#include <chrono>
#include <cstring>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

namespace {

/// Two runs and an upload that were given names, and what a day has made of older ones.
struct keyed_store : store_fixture {
  uuid run_id = uuid::random();
  uuid other_id = uuid::random();
  std::int64_t now = std::chrono::duration_cast<std::chrono::nanoseconds>(
                         std::chrono::system_clock::now().time_since_epoch())
                         .count();

  keyed_store() {
    start(run_id, 'r', "default", now);
    start(other_id, 'o', "other", now);
    auto put = make_frame<proto::PutFile>([&](auto to) {
      auto record = to.initRecord();
      uuid::random().to(record.initId());
      record.setProject("default");
      std::memset(record.initSha256(keys::digest_bytes).begin(), 1, keys::digest_bytes);
      record.setUpdatedAtUnixNs(now);
      fill(to.initKey(), 'f');
    });
    auto view = put.view();
    commit([&](catalog::transaction& t) { return t.put_file(*view); });
    catalog::sha256 digest{};
    digest.fill(1);
    std::ofstream{state / "blobs" / blob_file_name(digest)}; // of no bytes
  }

  static void fill(proto::RequestKey::Builder to, char name) {
    std::memset(to.initKey(keys::digest_bytes).begin(), name, keys::digest_bytes);
    std::memset(to.initDigest(keys::digest_bytes).begin(), 'q', keys::digest_bytes);
  }

  void start(const uuid& id, char name, const char* project, std::int64_t created) {
    auto record = make_frame<proto::OperationRecord>([&](auto to) {
      id.to(to.initId());
      to.setProject(project);
      to.setCreatedAtUnixNs(created);
      to.setKind(proto::OperationKind::IMAGE_IMPORT);
      to.getRequest().initImport().setUrl("docker://example.org/x:1");
    });
    auto key = make_frame<proto::RequestKey>([&](auto to) { fill(to, name); });
    auto r = record.view();
    auto k = key.view();
    commit([&](catalog::transaction& t) { return t.put_operation(*r, *k); });
  }

  static std::string key_of(char name, const char* project = "default") {
    return keys::project_key(project) + std::string(keys::digest_bytes, name);
  }
  static std::string age_of(char name, std::int64_t at, const char* project = "default") {
    return keys::project_key(project) + keys::oldest_first(at) +
           std::string(keys::digest_bytes, name);
  }
  static std::string record_of(const uuid& operation, std::int64_t at,
                               std::size_t digest_bytes = keys::digest_bytes) {
    auto record = make_frame<proto::RequestKeyRecord>([&](auto to) {
      std::memset(to.initDigest(static_cast<unsigned>(digest_bytes)).begin(), 'q', digest_bytes);
      operation.to(to.initOperation());
      to.setAtUnixNs(at);
    });
    auto bytes = record.bytes();
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  /// With another value of that row exactly one problem is told; as it was none.
  bool says_of_changed(const std::string& key, const std::string& value,
                       const std::vector<std::string>& what) {
    std::string old;
    for (const auto& [at, stored] : rows_of("request_keys")) {
      old = at == key ? stored : old;
    }
    put("request_keys", key, value);
    check();
    const bool is_told = says(what);
    put("request_keys", key, old);
    BOOST_TEST(check());
    return is_told;
  }
  /// When the row was used, as it says itself.
  std::int64_t used(char name, const char* project = "default") {
    for (const auto& [at, stored] : rows_of("request_key_ages")) {
      if (at.starts_with(keys::project_key(project)) && at.ends_with(std::string(32, name))) {
        return keys::time_of_oldest_first(
            std::string_view{at}.substr(keys::project_key(project).size()));
      }
    }
    return 0;
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(fsck_requests_suite, keyed_store)

BOOST_AUTO_TEST_CASE(names_of_requests_are_clean_as_they_are_kept) {
  BOOST_TEST(check());
  BOOST_TEST(rows_of("request_keys").size() == 3u + 2u); // and how many each project has
  BOOST_TEST(rows_of("request_key_ages").size() == 3u);
}

BOOST_AUTO_TEST_CASE(a_name_that_would_never_be_forgotten_is_told_once) {
  for (const auto& [key, value] : rows_of("request_key_ages")) {
    erase("request_key_ages", key);
    BOOST_TEST(!check());
    BOOST_TEST(says({"Idempotency-Key", "missing among those that are forgotten"}));
    put("request_key_ages", key, value);
  }
  BOOST_TEST(check());
}

BOOST_AUTO_TEST_CASE(a_name_is_told_whose_operation_is_not_there_or_anothers) {
  const auto nobody = uuid::random();
  const auto at = used('r');
  BOOST_TEST(says_of_changed(key_of('r'), record_of(nobody, at),
                             {"\"default\"", nobody.text(), "which is not there"}));
  BOOST_TEST(says_of_changed(key_of('r'), record_of(other_id, at),
                             {other_id.text(), "belongs to project \"other\""}));
  BOOST_TEST(says_of_changed(key_of('r'), record_of(run_id, at, 31),
                             {"does not say what the request was"}));
}

BOOST_AUTO_TEST_CASE(an_age_of_a_name_that_is_not_there_or_has_another_is_told) {
  BOOST_TEST(says_of_stray("request_key_ages", age_of('x', 5),
                           {"used at 5", "\"default\"", "which is not there"}));
  BOOST_TEST(says_of_stray("request_key_ages", age_of('r', 5),
                           {"used at 5", "its record says " + std::to_string(used('r'))}));
}

BOOST_AUTO_TEST_CASE(how_many_a_project_has_is_counted) {
  const auto count = keys::project_key("default");
  BOOST_TEST(says_of_changed(count, keys::big_endian(3),
                             {"project \"default\"", "is said to have 3 ", "there are 2"}));
  BOOST_TEST(says_of_changed(count, keys::big_endian(1), {"is said to have 1 ", "there are 2"}));
  BOOST_TEST(says_of_changed(count, "odd", {"project \"default\"", "is not a number"}));
  BOOST_TEST(says_of_stray("request_keys", keys::project_key("zebra"),
                           {"\"zebra\"", "is said to have 7 ", "there are 0"},
                           keys::big_endian(7)));
  erase("request_keys", count);
  BOOST_TEST(!check());
  BOOST_TEST(says({"project \"default\"", "is said to have 0 ", "there are 2"}));
}

BOOST_AUTO_TEST_CASE(a_name_that_is_lost_is_missed_by_its_age_and_by_the_count) {
  erase("request_keys", key_of('f'));
  BOOST_TEST(!check());
  BOOST_TEST(lines.size() == 2u);
}

BOOST_AUTO_TEST_CASE(projects_are_counted_a_few_at_a_time) {
  put("request_keys", keys::project_key("other"), keys::big_endian(2));
  for (std::size_t at_once : {1u, 2u, 3u}) {
    fsck_options how;
    how.projects_at_once = at_once;
    BOOST_TEST(!check(how));
    BOOST_TEST(says({"project \"other\"", "is said to have 2 ", "there are 1"}),
               at_once << " at once");
  }
}

BOOST_AUTO_TEST_CASE(rows_that_are_none_are_named_with_their_table) {
  for (const char* table : {"request_keys", "request_key_ages"}) {
    BOOST_TEST(says_of_stray(table, "\x01odd", {"table " + std::string{table}, "\"\\x01odd\""}));
    BOOST_TEST(says_of_stray(table, keys::project_key("default") + "short",
                             {"table " + std::string{table}}));
  }
}

BOOST_AUTO_TEST_CASE(a_name_that_is_used_again_after_a_day_leaves_nothing_behind) {
  const auto age = used('r');
  erase("request_key_ages", age_of('r', age));
  const auto long_ago = age - request_key_age_max_ns;
  put("request_key_ages", age_of('r', long_ago));
  put("request_keys", key_of('r'), record_of(run_id, long_ago));
  BOOST_TEST(check());
  start(uuid::random(), 'r', "default", now);
  BOOST_TEST(check());
  BOOST_TEST(rows_of("request_key_ages").size() == 3u);
}

BOOST_AUTO_TEST_SUITE_END()
