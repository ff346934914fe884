#define BOOST_TEST_MODULE catalog_usage
#include "storage/catalog_keys.hpp"
#include "storage/lmdb.hpp"
#include "tests/storage/catalog_fixture.hpp"

namespace coppice::storage {

namespace {

struct usage_fixture : catalog_fixture {
  /// "images imageBytes files fileBytes"
  std::string usage(const char* project = "default") const {
    auto got = c->get_usage(project);
    REQUIRE_OK(got);
    auto v = got->view();
    return std::to_string(v->getImages()) + " " + std::to_string(v->getImageBytes()) + " " +
           std::to_string(v->getFiles()) + " " + std::to_string(v->getFileBytes());
  }

  void put_file(std::uint64_t id, unsigned char digest, std::uint64_t size,
                const char* project = "default") {
    auto request = make_frame<proto::PutFile>([&](auto to) {
      auto r = to.initRecord();
      id_number(id).to(r.initId());
      r.setProject(project);
      const std::vector<kj::byte> bytes(32, digest);
      r.setSha256({bytes.data(), bytes.size()});
      r.setSizeBytes(size);
    });
    auto v = request.view();
    write([&](catalog::transaction& t) { REQUIRE_OK(t.put_file(*v)); });
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(catalog_usage, usage_fixture)

BOOST_AUTO_TEST_CASE(totals_follow_images_and_files) {
  BOOST_TEST(usage() == "0 0 0 0");
  put(image_of{1, 10});
  put(image_of{2, 20});
  put(image_of{3, 30, "other"});
  BOOST_TEST(usage() == "2 8192 0 0");
  BOOST_TEST(usage("other") == "1 4096 0 0");
  put_file(7, 1, 100);
  put_file(8, 1, 100); // the same bytes again
  put_file(9, 2, 11);
  BOOST_TEST(usage() == "2 8192 2 111");
  write([&](catalog::transaction& t) { REQUIRE_OK(t.delete_image("default", id_number(1))); });
  BOOST_TEST(usage() == "1 4096 2 111");
  auto projects = c->list_projects();
  REQUIRE_OK(projects);
  CHECK_SAME(*projects, strings{"default", "other"});
  CHECK_SAME(*c->list_projects("default"), strings{"other"});
}

BOOST_AUTO_TEST_CASE(a_change_that_is_not_committed_is_not_counted) {
  {
    auto t = c->begin();
    REQUIRE_OK(t);
    REQUIRE_OK(t->put_image(*image_of{1, 10}.record().view()));
  }
  BOOST_TEST(usage() == "0 0 0 0");
  write([&](catalog::transaction& t) {
    BOOST_TEST(failed_with(t.delete_image("default", id_number(1)), ec::not_found));
  });
  BOOST_TEST(usage() == "0 0 0 0");
}

BOOST_AUTO_TEST_CASE(a_catalog_of_the_version_before_is_counted_once) {
  put(image_of{1, 10});
  put(image_of{2, 20, "other"});
  put_file(7, 1, 100);
  c.reset();
  {
    auto env = lmdb::environment::open(folder.path / "catalog", {1u << 30, 32, 16});
    REQUIRE_OK(env);
    auto t = lmdb::transaction::begin(*env, lmdb::mode::write);
    REQUIRE_OK(t);
    t->put(*t->open_table("meta"), "schema", keys::big_endian(2));
    auto table = t->open_table("usage");
    t->erase(*table, "default");
    t->erase(*table, "other");
    REQUIRE_OK(t->commit());
  }
  BOOST_TEST(failed_with(catalog::open_read_only(folder.path / "catalog"), ec::unsupported));
  reopen();
  BOOST_TEST(usage() == "1 4096 1 100");
  BOOST_TEST(usage("other") == "1 4096 0 0");
  reopen();
  BOOST_TEST(usage() == "1 4096 1 100");
}

BOOST_AUTO_TEST_CASE(a_catalog_that_is_only_read_is_not_changed) {
  put(image_of{1, 10});
  c.reset();
  {
    auto reader = catalog::open_read_only(folder.path / "catalog");
    REQUIRE_OK(reader);
    BOOST_TEST((*reader)->has_image(id_number(1)));
    BOOST_TEST(!(*reader)->begin());
  }
  BOOST_TEST(!catalog::open_read_only(folder.path / "nowhere"));
  BOOST_TEST(!std::filesystem::exists(folder.path / "nowhere"));
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace coppice::storage
