#define BOOST_TEST_MODULE catalog_upgrade
#include "catalog_lineage_fixture.hpp"

namespace coppice::storage {

BOOST_FIXTURE_TEST_SUITE(upgrade, lineage_fixture)

BOOST_AUTO_TEST_CASE(the_images_of_version_1_get_their_files) {
  write([](catalog::transaction& t) {
    REQUIRE_OK(t.put_image(*image_of{1, 100}.record().view()));
    REQUIRE_OK(t.put_image(*image_of{2, 100, "default", "", 1}.record().view()));
    REQUIRE_OK(t.put_image(*image_of{3, 100, "default", "", 1}.record().view()));
  });
  c.reset();
  {
    auto env = lmdb::environment::open(folder.path / "catalog", {1u << 30, 32, 16});
    REQUIRE_OK(env);
    auto t = lmdb::transaction::begin(*env, lmdb::mode::write);
    REQUIRE_OK(t);
    for (const char* name : {"image_files", "image_file_children"}) {
      auto table = t->open_table(name);
      REQUIRE_OK(table);
      for (;;) {
        std::string key;
        {
          lmdb::cursor at{*t, *table};
          if (!at.seek(std::string(1, '\0'))) {
            break;
          }
          key = at.key();
        }
        t->erase(*table, key);
      }
    }
    auto meta = t->open_table("meta");
    REQUIRE_OK(meta);
    t->put(*meta, "schema", keys::big_endian(1));
    REQUIRE_OK(t->commit());
  }
  c = open();
  CHECK_SAME(children(1), numbers{2, 3});
  BOOST_CHECK(has_file(1) && has_file(2) && has_file(3));
  remove(1);
  remove(2);
  reopen(); // as version 2: deleted images do not come back
  CHECK_SAME(dead(), numbers{1});
  remove(3);
  CHECK_SAME(dead(), numbers{});
  BOOST_CHECK(!has_file(1));
}

BOOST_AUTO_TEST_CASE(the_operations_and_files_of_version_2_hold_their_images_and_blobs) {
  put(1, 0, 0);
  put_run(50, 1, proto::OperationStatus::EXECUTING);
  put_run(51, 1, proto::OperationStatus::PENDING);
  finish_run(51, 1);
  const std::string digest(32, 'd');
  write([&](catalog::transaction& t) {
    for (const char* project : {"default", "other"}) {
      auto request = make_frame<proto::PutFile>([&](proto::PutFile::Builder to) {
        auto record = to.initRecord();
        uuid::random().to(record.initId());
        record.setProject(project);
        record.setSha256({reinterpret_cast<const kj::byte*>(digest.data()), digest.size()});
      });
      REQUIRE_OK(t.put_file(*request.view()));
    }
  });
  catalog::sha256 known{};
  known.fill('d');
  BOOST_CHECK(c->has_blob(known).value());
  BOOST_CHECK(!c->has_blob({}).value());
  c.reset();
  {
    auto env = lmdb::environment::open(folder.path / "catalog", {1u << 30, 32, 16});
    REQUIRE_OK(env);
    auto t = lmdb::transaction::begin(*env, lmdb::mode::write);
    REQUIRE_OK(t);
    for (const auto& [name, key] :
         {std::pair<const char*, std::string>{"image_users",
                                              keys::of(id_number(1)) + keys::of(id_number(50))},
          {"blob_users", digest + "default"},
          {"blob_users", digest + "other"}}) {
      auto table = t->open_table(name);
      REQUIRE_OK(table);
      BOOST_REQUIRE(t->has(*table, key));
      t->erase(*table, key);
      lmdb::cursor at{*t, *table};
      BOOST_CHECK(name == std::string{"blob_users"} || !at.seek(std::string(1, '\0')));
    }
    auto meta = t->open_table("meta");
    REQUIRE_OK(meta);
    t->put(*meta, "schema", keys::big_endian(2));
    REQUIRE_OK(t->commit());
  }
  c = open();
  BOOST_CHECK(c->is_in_use(id_number(1)));
  BOOST_CHECK(c->has_blob(known).value());
  finish_run(50, 1);
  BOOST_CHECK(!c->is_in_use(id_number(1)));
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace coppice::storage
