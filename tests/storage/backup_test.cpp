#define BOOST_TEST_MODULE backup
#include "storage/backup.hpp"
#include "storage/error.hpp"
#include "storage/sparse_copy.hpp"
#include "tests/storage/upkeep_fixture.hpp"

#include <linux/falloc.h>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

namespace {

struct family : store_fixture {
  uuid base_id = uuid::random();
  uuid child_id = uuid::random();
  index_pointer base_index = import(base_id, {{5, 1}, {6, 2}});
  index_pointer child_index = child(child_id, base_id, base_index, {{6, 9}});
  std::filesystem::path blob = upload("an upload");
  std::filesystem::path target = state / "copy";

  backup_summary copy(const backup_options& how = {}) {
    auto done = backup(*records, state.path(), target, how);
    BOOST_REQUIRE_MESSAGE(done, (done ? "" : done.error().text));
    return *done;
  }

  /// The copy, proved by fsck with all checksums.
  fsck_summary proved() {
    auto copied = catalog::open_read_only(target / "catalog");
    BOOST_REQUIRE_MESSAGE(copied, (copied ? "" : copied.error().text));
    fsck_options how;
    how.scrub = true;
    auto done = fsck(**copied, target, how, [](const std::string& l) { BOOST_ERROR(l); });
    BOOST_REQUIRE(done);
    return *done;
  }

  void punch(const uuid& id, std::uint64_t cluster) {
    auto file = file_of(id);
    ::chmod(file.c_str(), 0600);
    auto fd = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
    BOOST_REQUIRE(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              static_cast<off_t>(cluster * cluster_bytes), cluster_bytes) == 0);
    ::close(fd);
    ::chmod(file.c_str(), 0400);
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(backup_suite, family)

BOOST_AUTO_TEST_CASE(a_copy_has_everything_and_holes_stay_holes) {
  auto done = copy();
  BOOST_TEST(done.images == 2u);
  BOOST_TEST(done.blobs == 1u);
  BOOST_TEST(done.rounds == 1u);
  auto whole = proved();
  BOOST_TEST(whole.images == 2u);
  BOOST_TEST(whole.uploads == 1u);
  struct stat copied {};
  struct stat original {};
  BOOST_REQUIRE(::stat((target / "images" / (child_id.text() + ".qcow2")).c_str(), &copied) == 0);
  BOOST_REQUIRE(::stat(file_of(child_id).c_str(), &original) == 0);
  BOOST_TEST(copied.st_size == original.st_size);
  BOOST_TEST(copied.st_blocks <= original.st_blocks);
  BOOST_TEST((copied.st_mode & 07777) == 0400u);
}

BOOST_AUTO_TEST_CASE(a_copy_goes_on_living_as_a_store) {
  copy();
  auto opened = catalog::open(target / "catalog");
  BOOST_REQUIRE(opened);
  auto t = (*opened)->begin();
  BOOST_REQUIRE(t);
  BOOST_TEST(t->delete_image("default", child_id).has_value());
  BOOST_TEST(t->commit().has_value());
  BOOST_TEST(records->has_image(child_id));
}

BOOST_AUTO_TEST_CASE(an_image_that_goes_away_meanwhile_is_not_in_the_copy) {
  backup_options how;
  how.after_catalog = [&](unsigned round) {
    if (round == 1) {
      forget(child_id);
      std::filesystem::remove(file_of(child_id));
    }
  };
  auto done = copy(how);
  BOOST_TEST(done.rounds == 2u);
  BOOST_TEST(done.images == 1u);
  BOOST_TEST(proved().images == 1u);
}

BOOST_AUTO_TEST_CASE(a_file_that_was_copied_before_its_image_went_away_is_not_kept) {
  auto lone = uuid::random();
  import(lone, {{ 9, 9 }});
  backup_options how;
  how.after_catalog = [&](unsigned round) {
    if (round == 1) {
      forget(lone); // its file is still there, and is copied
    }
  };
  auto done = copy(how);
  BOOST_TEST(done.rounds == 2u);
  BOOST_TEST(done.images == 2u);
  BOOST_TEST(proved().images == 2u);
}

BOOST_AUTO_TEST_CASE(a_file_that_lost_clusters_meanwhile_belongs_to_a_later_catalog) {
  // The base is deleted and what only it showed is given back, while the copied catalog has it.
  backup_options how;
  how.after_catalog = [&](unsigned round) {
    if (round == 1) {
      forget(base_id);
      punch(base_id, qcow2::data_begin(disk_bytes) + 2); // its cluster 6, which the child replaced
    }
  };
  auto done = copy(how);
  BOOST_TEST(done.rounds == 2u);
  auto whole = proved();
  BOOST_TEST(whole.images == 1u);
  BOOST_TEST(whole.deleted_files == 1u);
}

BOOST_AUTO_TEST_CASE(images_that_come_meanwhile_do_no_harm) {
  backup_options how;
  how.after_catalog = [&](unsigned) {
    child(uuid::random(), child_id, child_index, {{20, 1}});
  };
  BOOST_TEST(copy(how).rounds == 1u);
  BOOST_TEST(proved().images == 2u);
}

BOOST_AUTO_TEST_CASE(it_gives_up_when_images_go_away_all_the_time_and_leaves_nothing) {
  std::vector<uuid> more;
  for (int i = 0; i < 3; ++i) {
    more.push_back(uuid::random());
    child(more.back(), child_id, child_index, {{20, 1}});
  }
  backup_options how;
  how.rounds_max = 3;
  how.after_catalog = [&](unsigned round) {
    forget(more[round - 1]);
  };
  auto done = backup(*records, state.path(), target, how);
  BOOST_REQUIRE(!done);
  BOOST_TEST((done.error().code == make_error_code(ec::conflict)));
  BOOST_TEST(!std::filesystem::exists(target));
}

BOOST_AUTO_TEST_CASE(a_damaged_store_is_not_called_a_backup) {
  std::filesystem::remove(file_of(base_id));
  auto done = backup(*records, state.path(), target);
  BOOST_REQUIRE(!done);
  BOOST_TEST(done.error().text.find(base_id.text()) != std::string::npos);
  BOOST_TEST(!std::filesystem::exists(target));
}

BOOST_AUTO_TEST_CASE(only_a_new_or_empty_folder_is_filled) {
  std::filesystem::create_directory(target);
  std::ofstream{target / "mine"} << "precious";
  auto done = backup(*records, state.path(), target);
  BOOST_REQUIRE(!done);
  BOOST_TEST((done.error().code == make_error_code(ec::conflict)));
  BOOST_TEST(std::filesystem::exists(target / "mine"));
  std::filesystem::remove(target / "mine");
  BOOST_TEST(copy().images == 2u);
}

BOOST_AUTO_TEST_CASE(a_sparse_copy_has_the_same_bytes_and_no_more_blocks) {
  auto from = state / "from";
  {
    std::ofstream out{from, std::ios::binary};
    for (auto at : {0l, 1l << 20, (64l << 20) + 5}) {
      out.seekp(at);
      out << std::string(5000, 'q');
    }
  }
  auto done = copy_sparse(from, state / "to");
  BOOST_REQUIRE_MESSAGE(done, (done ? "" : done.error().text));
  must("cmp " + from.string() + " " + (state / "to").string());
  struct stat a {};
  struct stat b {};
  ::stat(from.c_str(), &a);
  ::stat((state / "to").c_str(), &b);
  BOOST_TEST(b.st_blocks <= a.st_blocks);
  auto again = copy_sparse(from, state / "to");
  BOOST_REQUIRE(!again);
  BOOST_TEST((again.error().code == make_error_code(ec::conflict)));
}

BOOST_AUTO_TEST_SUITE_END()
