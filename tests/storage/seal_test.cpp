#define BOOST_TEST_MODULE seal
#include "storage/error.hpp"
#include "storage/qcow2/sealed_file.hpp"
#include "tests/storage/disk_fixture.hpp"

#include <boost/test/unit_test.hpp>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

BOOST_FIXTURE_TEST_SUITE(seal_suite, disk_fixture)

BOOST_AUTO_TEST_CASE(a_mount_that_changes_nothing_gives_back_its_image) {
  auto parent = uuid::random();
  auto below = base(parent, {{5, 1}});
  auto disk = branch(uuid::random(), below);
  BOOST_TEST(write(*disk, 0, clean_superblock(1, 77)) == 0);
  BOOST_TEST(write(*disk, 5, cluster_of(1)) == 0); // the same as before
  auto done = sealed(*disk, parent);
  BOOST_TEST(done.is_unchanged);
  BOOST_TEST(!std::filesystem::exists(file_of(disk->where().id)));
}

BOOST_AUTO_TEST_CASE(what_equals_the_parent_is_not_kept) {
  auto parent = uuid::random();
  auto below = base(parent, {{5, 1}, {6, 2}, {7, 3}});
  auto disk = branch(uuid::random(), below);
  BOOST_TEST(write(*disk, 5, cluster_of(9)) == 0);
  BOOST_TEST(write(*disk, 6, cluster_of(2)) == 0);
  BOOST_TEST(write(*disk, 7, cluster_of(0)) == 0);
  BOOST_TEST(write(*disk, 8, cluster_of(0)) == 0);
  sealed(*disk, parent);
  auto bytes = qcow2::open_bytes(file_of(disk->where().id));
  BOOST_REQUIRE(bytes);
  auto found = qcow2::read_sealed(**bytes);
  BOOST_REQUIRE_MESSAGE(found, (found ? "" : found.error().text));
  BOOST_REQUIRE(found->own.size() == 2u);
  BOOST_TEST(found->own[0].guest == 5u);
  BOOST_TEST((found->own[1] == own_extent{7, 1, own_extent::zeros}));
  BOOST_TEST((found->parent == parent));
  BOOST_TEST(qcow2::verify_content(**bytes, *found).has_value());
}

BOOST_AUTO_TEST_CASE(a_disk_without_a_change_is_its_parent_unless_it_is_to_be_kept) {
  auto parent = uuid::random();
  auto below = base(parent, {});
  auto disk = branch(uuid::random(), below);
  auto same = try_seal(*disk, parent);
  BOOST_REQUIRE(same.has_value());
  BOOST_TEST(same->is_unchanged);

  auto kept = branch(uuid::random(), below);
  auto done = io::run(
      *io, seal(*io, *kept, parent, file_of(kept->where().id), names, unchanged_disk::is_kept));
  BOOST_REQUIRE_MESSAGE(done.has_value(), (done ? "" : done.error().text));
  BOOST_TEST(!done->is_unchanged);
  auto bytes = qcow2::open_bytes(file_of(kept->where().id));
  BOOST_REQUIRE(bytes);
  auto found = qcow2::read_sealed(**bytes);
  BOOST_REQUIRE_MESSAGE(found, (found ? "" : found.error().text));
  BOOST_TEST(found->own.empty());
  BOOST_TEST((found->parent == parent));
  must("qemu-img check " + file_of(kept->where().id).string());
}

BOOST_AUTO_TEST_CASE(a_mounted_file_system_is_not_sealed) {
  auto parent = uuid::random();
  auto below = base(parent, {});
  auto disk = branch(uuid::random(), below);
  BOOST_TEST(write(*disk, 0, clean_superblock(0)) == 0);
  auto done = try_seal(*disk, parent);
  BOOST_REQUIRE(done.has_error());
  BOOST_TEST((done.error().code == make_error_code(ec::not_clean)));
}

BOOST_AUTO_TEST_CASE(a_sealed_file_is_read_only_whole_and_small) {
  auto parent = uuid::random();
  auto below = base(parent, {});
  auto disk = branch(uuid::random(), below);
  for (cluster_number guest : {100u, 101u, 300'000u, 300'001u, 9'000'000u}) {
    BOOST_TEST(write(*disk, guest, cluster_of(1)) == 0);
  }
  auto done = sealed(*disk, parent);
  auto file = file_of(disk->where().id);
  must("qemu-img check " + file.string());
  BOOST_TEST(done.own_bytes <= 64u << 10);
  BOOST_TEST(((std::filesystem::status(file).permissions() & std::filesystem::perms::owner_write) ==
              std::filesystem::perms::none));
  BOOST_TEST(!std::filesystem::exists(disk->where().file));
}

BOOST_AUTO_TEST_CASE(an_image_is_never_overwritten) {
  auto parent = uuid::random();
  auto below = base(parent, {});
  auto id = uuid::random();
  auto first = branch(id, below);
  BOOST_TEST(write(*first, 5, cluster_of(1)) == 0);
  sealed(*first, parent);
  auto second = branch(id, below);
  BOOST_TEST(write(*second, 5, cluster_of(2)) == 0);
  auto done = try_seal(*second, parent);
  BOOST_REQUIRE(done.has_error());
  BOOST_TEST((done.error().code == make_error_code(ec::conflict)));
}

BOOST_AUTO_TEST_CASE(seals_at_one_time_share_the_sync_of_the_folder) {
  auto parent = uuid::random();
  auto below = base(parent, {});
  std::vector<std::unique_ptr<overlay>> disks;
  for (int i = 0; i < 32; ++i) {
    disks.push_back(branch(uuid::random(), below));
    BOOST_TEST(write(*disks.back(), 5, cluster_of(static_cast<std::uint8_t>(i + 1))) == 0);
  }
  auto before = names.syncs();
  std::size_t good = 0;
  std::size_t ended = 0;
  for (auto& d : disks) {
    start(seal(*io, *d, parent, file_of(d->where().id), names), [&](result<sealed_image> r) {
      ++ended;
      good += r.has_value() ? 1 : 0;
    });
  }
  while (ended < disks.size()) {
    io->turn();
  }
  BOOST_TEST(good == disks.size());
  BOOST_TEST(names.syncs() - before < disks.size());
}

BOOST_AUTO_TEST_SUITE_END()
