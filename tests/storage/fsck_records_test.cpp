#define BOOST_TEST_MODULE fsck_records
#include "storage/catalog_images.hpp"
#include "storage/catalog_operations.hpp"
#include "tests/storage/upkeep_fixture.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <map>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

namespace {

using status = proto::OperationStatus;
using kind = proto::OperationKind;

/// Something of every kind of record, as a daemon leaves it.
struct full_store : store_fixture {
  uuid base_id = uuid::random();
  uuid child_id = uuid::random();
  uuid deleted_id = uuid::random();
  uuid heir_id = uuid::random();
  uuid running_id = uuid::random();
  uuid ended_id = uuid::random();
  index_pointer base_index = base(base_id, {{5, 1}});
  catalog::sha256 digest{};
  catalog::transaction* shared = nullptr;

  full_store() {
    record_import(base_id, base_index, "sha256:aa", 70);
    auto child_index = child(child_id, base_id, base_index, {{6, 9}});
    auto deleted_index = child(deleted_id, base_id, base_index, {{6, 8}});
    child(heir_id, deleted_id, deleted_index, {{7, 1}});
    forget(deleted_id);
    auto blob = upload("an upload");
    digest = *digest_of_name(blob.filename().string());
    record_upload(digest, 9, "zebra");
    auto t = records->begin();
    BOOST_REQUIRE(t);
    shared = &*t;
    tag(child_id, "a");
    tag(child_id, "b");
    tag(heir_id, "moves");
    tag(child_id, "moves");
    operation(running_id, child_id, status::EXECUTING, 100);
    operation(ended_id, base_id, status::EXECUTING, 200);
    end(ended_id, base_id, 200, 3);
    const auto import_id = uuid::random();
    operation(import_id, {}, status::PENDING, 300, "zebra");
    shared = nullptr;
    BOOST_REQUIRE(t->commit());
  }

  /// In the transaction that is shared, or one of its own.
  template <class Body>
  void change(Body&& body) {
    if (shared == nullptr) {
      commit(body);
    } else {
      auto done = body(*shared);
      BOOST_REQUIRE_MESSAGE(done.has_value(), (done ? "" : done.error().text));
    }
  }

  void record_import(const uuid& id, const index_pointer& index, const char* source,
                     std::int64_t created) {
    auto image = make_frame<proto::ImageRecord>([&](auto to) {
      id.to(to.initId());
      to.setProject("default");
      to.setSizeBytes(10);
      to.setSourceDigest(source);
      to.setCreatedAtUnixNs(created);
    });
    auto stored = make_frame<proto::ImageIndex>([&](auto to) {
      auto bytes = index->encode();
      to.setExtents({reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()});
    });
    auto i = image.view();
    auto x = stored.view();
    change([&](catalog::transaction& t) { return t.put_image(*i, *x); });
  }

  void tag(const uuid& image, const char* name) {
    auto request = make_frame<proto::SetTag>([&](auto to) {
      to.setProject("default");
      image.to(to.initImage());
      to.setTag(name);
    });
    auto v = request.view();
    change([&](catalog::transaction& t) { return t.set_tag(*v); });
  }

  static void fill(proto::OperationRecord::Builder to, const uuid& id, const uuid& image, status at,
                   std::int64_t created, const char* project) {
    id.to(to.initId());
    to.setProject(project);
    to.setStatus(at);
    to.setCreatedAtUnixNs(created);
    if (image) {
      to.setKind(kind::INSTANCE);
      auto request = to.getRequest().initInstance();
      request.initProcess().setCommand("true");
      image.to(request.initImage());
    } else {
      to.setKind(kind::IMAGE_IMPORT);
      to.getRequest().initImport().setUrl("docker://example.org/x:1");
    }
  }

  void operation(const uuid& id, const uuid& image, status at, std::int64_t created,
                 const char* project = "default") {
    auto record = make_frame<proto::OperationRecord>(
        [&](auto to) { fill(to, id, image, at, created, project); });
    auto v = record.view();
    change([&](catalog::transaction& t) { return t.put_operation(*v); });
  }

  void end(const uuid& id, const uuid& image, std::int64_t created, unsigned events) {
    auto request = make_frame<proto::FinishOperation>([&](auto to) {
      fill(to.initRecord(), id, image, status::FAILED, created, "default");
      to.getRecord().setEndedAtUnixNs(created + 1);
      auto list = to.initEvents(events);
      for (unsigned i = 0; i < events; ++i) {
        list[i].setId(i);
      }
    });
    auto v = request.view();
    change([&](catalog::transaction& t) { return t.finish_operation(*v); });
  }

  std::string listed(const uuid& image, std::int64_t created, row_scope scope = row_scope::all,
                     const std::string& name = {}) const {
    return image_index_prefix("default", scope) + keys::newest_first(created) + keys::of(image) +
           name;
  }

  std::string digest_bytes() const {
    return {digest.begin(), digest.end()};
  }

  static std::string bytes_of(const frame_base& record) {
    auto bytes = record.bytes();
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  static std::string totals(std::uint64_t images, std::uint64_t image_bytes, std::uint64_t files,
                            std::uint64_t file_bytes) {
    return bytes_of(make_frame<proto::ProjectUsage>([&](auto to) {
      to.setImages(images);
      to.setImageBytes(image_bytes);
      to.setFiles(files);
      to.setFileBytes(file_bytes);
    }));
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(fsck_records_suite, full_store)

BOOST_AUTO_TEST_CASE(a_store_with_all_kinds_of_records_is_clean) {
  BOOST_TEST(scrub());
  BOOST_TEST(found.catalog_rows > 40u);
  BOOST_TEST(found.are_totals_counted);
}

BOOST_AUTO_TEST_CASE(each_row_that_is_lost_is_told_once) {
  const std::map<std::string, std::size_t> derived{
      {"image_index", 5 + 3}, // the base, heir, and each of the child's tags in two listings
      {"tags", 3},
      {"image_tags", 3},
      {"sources", 1},
      {"operation_details", 3},
      {"operation_index", 12},
      {"unfinished", 2},
      {"event_logs", 1},
      {"image_users", 1},
      {"file_ids", 2},
      {"file_index", 2},
      {"blob_users", 2},
      {"image_file_children", 3},
      {"dead_image_files", 1},
      {"index_users", 2},
      {"usage", 2},
  };
  for (const auto& [table, count] : derived) {
    const auto rows = rows_of(table.c_str());
    BOOST_TEST(rows.size() == count, table << " has " << rows.size());
    for (const auto& [key, value] : rows) {
      erase(table.c_str(), key);
      BOOST_TEST(!check());
      // Without its child the deleted image also has no reason to be kept.
      const bool is_reason = key == keys::of(deleted_id) + keys::of(heir_id);
      BOOST_TEST(lines.size() == (is_reason ? 2u : 1u), table << ": " << lines.size() << " lines");
      BOOST_TEST(lines.at(0).starts_with("catalog: "), lines.at(0));
      put(table.c_str(), key, value);
    }
  }
  BOOST_TEST(check());
}

BOOST_AUTO_TEST_CASE(totals_that_differ_are_told_with_both) {
  put("usage", "default", totals(3, 8202, 1, 8));
  BOOST_TEST(!check());
  BOOST_TEST(says({"totals of project \"default\" say 3 images of 8202 bytes, 1 files of 8 bytes",
                   "add up to 3 images of 8202 bytes, 1 files of 9 bytes"}));
  put("usage", "default", totals(4, 8202, 1, 9));
  BOOST_TEST(!check());
  BOOST_TEST(says({"say 4 images", "add up to 3 images"}));
  put("usage", "default", totals(3, 8202, 1, 9));
  BOOST_TEST(says_of_stray("usage", "nobody", {"\"nobody\" say 1 images", "0 images"},
                           totals(1, 0, 0, 0)));
  BOOST_TEST(says_of_stray("usage", "nobody", {"\"nobody\" are not a record"}, "odd"));
}

BOOST_AUTO_TEST_CASE(totals_of_many_projects_are_counted_a_few_at_a_time) {
  for (const char* project : {"b", "m", "z"}) {
    record_upload(digest, 9, project);
  }
  put("usage", "m", totals(0, 0, 2, 9));
  for (std::size_t at_once : {0u, 1u, 2u, 3u, 4u, 5u, 6u}) {
    fsck_options how;
    how.projects_at_once = at_once;
    BOOST_TEST(!check(how));
    BOOST_TEST(says({"project \"m\" say 0 images of 0 bytes, 2 files", "add up to 0 images"}),
               at_once << " at once");
  }
}

BOOST_AUTO_TEST_CASE(an_image_row_without_its_image_is_named) {
  const auto nobody = uuid::random();
  BOOST_TEST(says_of_stray("image_index", listed(nobody, 5), {nobody.text(), "is not there"}));
  BOOST_TEST(says_of_stray("image_index", listed(base_id, 71),
                           {base_id.text(), "made at 71", "record says 70"}));
  BOOST_TEST(says_of_stray("image_index", listed(child_id, 0),
                           {child_id.text(), "\"a\"", "listed as one without"}));
  for (auto scope : {row_scope::all, row_scope::tagged}) {
    BOOST_TEST(says_of_stray("image_index", listed(base_id, 70, scope, "ghost"),
                             {base_id.text(), "\"ghost\"", "does not have that tag"}));
  }
  auto elsewhere = image_index_prefix("zebra", row_scope::all) + keys::newest_first(70);
  BOOST_TEST(says_of_stray("image_index", elsewhere + keys::of(base_id),
                           {"\"zebra\"", base_id.text(), "belongs to project \"default\""}));
  BOOST_TEST(says_of_stray("sources",
                           keys::project_key("default") + "sha256:bb" + '\0' +
                               keys::newest_first(70) + keys::of(base_id),
                           {base_id.text(), "\"sha256:bb\"", "imported from \"sha256:aa\""}));
}

BOOST_AUTO_TEST_CASE(a_tag_that_points_to_no_image_or_to_one_that_does_not_know_is_named) {
  const auto nobody = uuid::random();
  const auto key = keys::project_key("default") + "ghost";
  BOOST_TEST(says_of_stray("tags", key, {"\"ghost\"", nobody.text(), "not there"},
                           keys::of(nobody) + keys::newest_first(1)));
  BOOST_TEST(says_of_stray("tags", key,
                           {"\"ghost\"", child_id.text(), "missing among the image's tags",
                            "listing of images", "listing of tagged images"},
                           keys::of(child_id) + keys::newest_first(0)));
  BOOST_TEST(says_of_stray("tags", key, {"\"ghost\"", base_id.text(), "made at 3", "says 70"},
                           keys::of(base_id) + keys::newest_first(3)));
  BOOST_TEST(says_of_stray("tags", key, {"table tags"}, "odd"));
  BOOST_TEST(says_of_stray("image_tags", keys::of(child_id) + "ghost",
                           {child_id.text(), "\"ghost\"", "no such tag"}));
  BOOST_TEST(
      says_of_stray("image_tags", keys::of(nobody) + "ghost", {nobody.text(), "is not there"}));
  put("tags", keys::project_key("default") + "b", keys::of(heir_id) + keys::newest_first(0));
  BOOST_TEST(!check()); // each side says so
  BOOST_TEST(lines.size() == 2u);
}

BOOST_AUTO_TEST_CASE(an_operation_row_that_its_record_does_not_say_is_named) {
  auto key = [&](std::optional<status> at, std::optional<kind> of, std::int64_t created,
                 const uuid& id) {
    return operation_index_prefix("default", at, of) + keys::newest_first(created) + keys::of(id);
  };
  const auto nobody = uuid::random();
  BOOST_TEST(
      says_of_stray("operation_index", key({}, {}, 5, nobody), {nobody.text(), "not there"}));
  BOOST_TEST(says_of_stray("operation_index", key(status::SUCCESS, {}, 200, ended_id),
                           {ended_id.text(), "as SUCCESS", "FAILED"}));
  BOOST_TEST(says_of_stray("operation_index", key({}, kind::IMAGE_IMPORT, 200, ended_id),
                           {ended_id.text(), "of kind 1", "kind 0"}));
  BOOST_TEST(says_of_stray("operation_index", key({}, {}, 201, ended_id),
                           {ended_id.text(), "made at 201", "made at 200"}));
  BOOST_TEST(says_of_stray("unfinished", keys::oldest_first(200) + keys::of(ended_id),
                           {ended_id.text(), "unfinished", "FAILED"}));
  BOOST_TEST(says_of_stray("unfinished", keys::oldest_first(99) + keys::of(running_id),
                           {running_id.text(), "99", "100"}));
  BOOST_TEST(says_of_stray("event_logs", keys::oldest_first(7) + keys::of(running_id),
                           {running_id.text(), "event logs", "EXECUTING"}));
  BOOST_TEST(says_of_stray("operation_details", keys::of(nobody), {nobody.text(), "not there"},
                           rows_of("operation_details").at(0).second));
}

BOOST_AUTO_TEST_CASE(a_user_of_an_image_or_a_blob_that_is_none_is_named) {
  const auto nobody = uuid::random();
  BOOST_TEST(says_of_stray("image_users", keys::of(base_id) + keys::of(ended_id),
                           {base_id.text(), ended_id.text(), "is FAILED and holds no image"}));
  BOOST_TEST(says_of_stray("image_users", keys::of(base_id) + keys::of(running_id),
                           {running_id.text(), "was given image " + child_id.text()}));
  BOOST_TEST(says_of_stray("image_users", keys::of(base_id) + keys::of(nobody),
                           {nobody.text(), "which is not there"}));
  BOOST_TEST(says_of_stray("blob_users", digest_bytes() + "nobody",
                           {blob_file_name(digest), "\"nobody\"", "no such file"}));
}

BOOST_AUTO_TEST_CASE(a_row_of_an_uploaded_file_that_its_record_does_not_say_is_named) {
  const auto key = keys::project_key("default") + digest_bytes();
  const auto nobody = uuid::random();
  BOOST_TEST(
      says_of_stray("file_ids", keys::of(nobody), {nobody.text(), "whose record says"}, key));
  BOOST_TEST(says_of_stray("file_ids", keys::of(nobody), {nobody.text(), "is not there"},
                           keys::project_key("nobody") + digest_bytes()));
  const auto record = rows_of("file_index").at(0).second;
  BOOST_TEST(says_of_stray("file_index",
                           keys::project_key("default") + keys::newest_first(9) + digest_bytes(),
                           {blob_file_name(digest), "uploaded at 9", "record says 0"}, record));
  const auto listing = rows_of("file_index");
  put("file_index", listing[0].first, listing[1].second);
  BOOST_TEST(!check());
  BOOST_TEST(says({blob_file_name(digest), "\"default\"", "not its own"}));
}

BOOST_AUTO_TEST_CASE(a_file_is_kept_for_a_reason_and_parents_know_their_children) {
  BOOST_TEST(
      says_of_stray("image_file_children", keys::of(base_id) + keys::of(heir_id),
                    {heir_id.text(), base_id.text(), "says that of image " + deleted_id.text()}));
  const auto nobody = uuid::random();
  BOOST_TEST(says_of_stray("image_file_children", keys::of(base_id) + keys::of(nobody),
                           {nobody.text(), "not on record"}));
  BOOST_TEST(says_of_stray("dead_image_files", keys::of(nobody), {nobody.text(), "not on record"}));
  BOOST_TEST(says_of_stray("index_users", keys::of(base_id) + keys::of(nobody),
                           {nobody.text(), "the image is not there"}));
  BOOST_TEST(says_of_stray("index_users", keys::of(child_id) + keys::of(heir_id),
                           {heir_id.text(), "stands on that of image " + base_id.text()}));
  BOOST_TEST(says_of_stray("indexes", keys::of(nobody), {nobody.text(), "is kept"},
                           rows_of("indexes").at(0).second));
  // A deleted image whose last descendant is gone, as if its own file had been forgotten.
  const auto lonely = uuid::random();
  import(lonely, {{ 5, 1 }});
  forget(lonely); // the file itself is left
  put("image_files", keys::of(lonely), keys::of({}));
  put("dead_image_files", keys::of(lonely));
  BOOST_TEST(!check());
  BOOST_TEST(says({"deleted image " + lonely.text(), "no file stands on it"}));
}

BOOST_AUTO_TEST_CASE(rows_that_are_none_are_named_with_their_table) {
  for (const char* table :
       {"image_index", "tags", "image_tags", "sources", "operations", "operation_details",
        "operation_index", "unfinished", "event_logs", "image_users", "file_ids", "file_index",
        "blob_users", "image_file_children", "dead_image_files", "indexes", "index_users"}) {
    BOOST_TEST(says_of_stray(table, "\x01odd", {"table " + std::string{table}, "\"\\x01odd\""}));
  }
  auto forged = std::string(64, '\xff'); // a pointer far outside
  const auto nobody = uuid::random();
  BOOST_TEST(
      says_of_stray("operations", keys::of(nobody), {"table operations", "malformed"}, forged));
}

BOOST_AUTO_TEST_CASE(a_lost_row_is_found_in_any_page) {
  commit([&](catalog::transaction& t) {
    for (unsigned i = 0; i < 1500; ++i) {
      const auto id = uuid::random();
      auto record = make_frame<proto::OperationRecord>(
          [&](auto to) { fill(to, id, child_id, status::PENDING, 1000 + i, "default"); });
      if (auto done = t.put_operation(*record.view()); !done) {
        return done;
      }
    }
    return result<void>{};
  });
  BOOST_TEST(check());
  BOOST_TEST(found.catalog_rows > 8 * 1500u);
  const auto rows = rows_of("operation_index");
  for (std::size_t at : {0u, 999u, 1000u, 2500u, 5999u}) {
    erase("operation_index", rows[at].first);
    BOOST_TEST(!check());
    BOOST_TEST(says({"missing in the listing"}), "row " << at);
    put("operation_index", rows[at].first);
  }
}

BOOST_AUTO_TEST_CASE(what_changes_while_it_is_looked_at_is_not_called_wrong) {
  std::int64_t n = 0;
  std::vector<uuid> made;
  fsck_options how;
  how.at_page = [&] {
    // Each turn something new of each kind, and an end for what the one before has made.
    const auto image = uuid::random();
    record_import(image, base_index, "sha256:aa", ++n);
    tag(image, "moves");
    record_upload(digest, 9, "p" + std::to_string(n));
    if (!made.empty()) {
      end(made.back(), base_id, 1000 + n, 2);
    }
    made.push_back(uuid::random());
    operation(made.back(), base_id, status::EXECUTING, 1001 + n);
    if (n % 2 == 0) {
      commit([&](catalog::transaction& t) {
        return t.delete_image("default", image, with_tags::yes);
      });
    }
  };
  BOOST_TEST(check(how));
  BOOST_TEST(n > 20);
  BOOST_TEST(found.are_totals_counted);
}

BOOST_AUTO_TEST_CASE(a_count_behind_which_too_much_is_committed_is_begun_again_and_then_left) {
  put("usage", "zebra", totals(0, 0, 5, 9));
  unsigned commits = 0;
  unsigned commits_max = 0;
  fsck_options how;
  how.commits_behind_max = 0;
  how.at_page = [&] {
    if (commits < commits_max) {
      ++commits;
      tag(commits % 2 == 0 ? child_id : heir_id, "moves");
    }
  };
  // Pages of rows take some of them; the rest come while totals are counted.
  BOOST_TEST(!check(how));
  BOOST_TEST(says({"zebra"}));
  BOOST_TEST(found.are_totals_counted);
  commits_max = 100'000;
  BOOST_TEST(check(how));
  BOOST_TEST(!found.are_totals_counted);
  commits_max = commits - 1; // all but the last of three tries is disturbed
  commits = 0;
  BOOST_TEST(!check(how));
  BOOST_TEST(says({"zebra"}));
  BOOST_TEST(found.are_totals_counted);
}

BOOST_AUTO_TEST_CASE(what_is_right_at_the_second_look_is_not_told) {
  const auto key = listed(base_id, 71);
  put("image_index", key);
  bool is_done = false;
  fsck_options how;
  how.at_page = [&] {
    // Another process: this one must not open the catalog twice.
    if (!std::exchange(is_done, true)) {
      return; // the page of images, which is right
    }
    const auto repairer = ::fork();
    if (repairer == 0) {
      auto env = lmdb::environment::open(state / "catalog", {1u << 30, 32, 16});
      auto t = lmdb::transaction::begin(*env, lmdb::mode::write);
      t->erase(*t->open_table("image_index"), key);
      ::_exit(t->commit() ? 0 : 1);
    }
    int how_it_ended = 1;
    BOOST_REQUIRE(::waitpid(repairer, &how_it_ended, 0) == repairer);
    BOOST_REQUIRE(how_it_ended == 0);
  };
  BOOST_TEST(check(how));
  put("image_index", key);
  BOOST_TEST(!check());
}

BOOST_AUTO_TEST_SUITE_END()
