#define BOOST_TEST_MODULE overlay
#include "storage/error.hpp"
#include "storage/qcow2/sealed_file.hpp"
#include "tests/storage/disk_fixture.hpp"
#include "tests/support/faulty_ring.hpp"

#include <boost/test/unit_test.hpp>

#include <cerrno>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

namespace {

/// What a disk should show, cluster by cluster.
using model = std::map<cluster_number, std::uint8_t>;

constexpr cluster_number far = 16'000'000; // near the end of the disk

} // namespace

namespace {

/// Writes of clusters fail as on a disk that is nearly full.
struct faulty_fixture : disk_fixture {
  faulty_fixture() : disk_fixture{std::make_unique<faulty_ring>(default_ring())} {}

  faulty_ring& faults() {
    return static_cast<faulty_ring&>(*io);
  }
  static bool is_write(const faulty_ring::entry& e) {
    return e.what == io_request::call::write;
  }
};

} // namespace

BOOST_FIXTURE_TEST_CASE(a_write_that_was_cut_short_goes_on, faulty_fixture) {
  auto disk = branch(uuid::random(), nullptr);
  faults().cut(is_write, 1, 100);
  BOOST_TEST(write(*disk, 5, cluster_of(7)) == 0);
  BOOST_TEST((read(*disk, 5) == cluster_of(7)));
  BOOST_TEST(!disk->trouble());
}

BOOST_FIXTURE_TEST_CASE(a_write_that_was_cut_short_by_a_full_disk_says_so, faulty_fixture) {
  auto disk = branch(uuid::random(), nullptr);
  faults().cut(is_write, 1, 100);
  faults().fail(is_write, 2, ENOSPC);
  BOOST_TEST(write(*disk, 5, cluster_of(7)) == ENOSPC);
  BOOST_REQUIRE(disk->trouble());
  BOOST_TEST((disk->trouble()->code == make_error_code(ec::no_space)), disk->trouble()->text);
  BOOST_TEST((read(*disk, 5) == cluster_of(0)));
}

BOOST_FIXTURE_TEST_CASE(a_write_beyond_the_limit_names_the_limit_and_the_use, disk_fixture) {
  own_bytes_max = 2 * cluster_bytes;
  auto disk = branch(uuid::random(), nullptr);
  BOOST_TEST(write(*disk, 5, cluster_of(7)) == 0);
  BOOST_TEST(write(*disk, 6, content(2 * cluster_bytes, std::byte{1})) == ENOSPC);
  BOOST_REQUIRE(disk->trouble());
  BOOST_TEST((disk->trouble()->code == make_error_code(ec::too_large)));
  for (auto part : {"took 4096 bytes", "8192 more", "limit is 8192 bytes"}) {
    BOOST_TEST(disk->trouble()->text.find(part) != std::string::npos, disk->trouble()->text);
  }
}

BOOST_FIXTURE_TEST_SUITE(overlay_suite, disk_fixture)

BOOST_AUTO_TEST_CASE(a_disk_that_nobody_wrote_is_zeros_and_has_no_file) {
  auto disk = branch(uuid::random(), nullptr);
  BOOST_TEST((read(*disk, far, 3) == content(3 * cluster_bytes)));
  BOOST_TEST((zero(*disk, 0, 1000) == 0));
  BOOST_TEST(!std::filesystem::exists(disk->where().file));
}

BOOST_AUTO_TEST_CASE(writes_are_seen_above_and_not_below) {
  auto parent = uuid::random();
  auto below = base(parent, {{5, 1}, {6, 1}, {far, 1}});
  auto disk = branch(uuid::random(), below);
  BOOST_TEST(write(*disk, 6, cluster_of(2)) == 0);
  BOOST_TEST((read(*disk, 5) == cluster_of(1)));
  BOOST_TEST((read(*disk, 6) == cluster_of(2)));
  BOOST_TEST((read(*disk, far) == cluster_of(1)));
  auto sibling = branch(uuid::random(), below);
  BOOST_TEST((read(*sibling, 6) == cluster_of(1)));
}

BOOST_AUTO_TEST_CASE(a_rewritten_cluster_takes_no_more_space) {
  auto disk = branch(uuid::random(), nullptr);
  for (std::uint8_t round = 1; round < 50; ++round) {
    BOOST_TEST(write(*disk, 7, cluster_of(round)) == 0);
  }
  BOOST_TEST(disk->file_space().used() == 1u);
  BOOST_TEST((read(*disk, 7) == cluster_of(49)));
}

BOOST_AUTO_TEST_CASE(trimmed_space_is_used_again) {
  auto disk = branch(uuid::random(), nullptr);
  content megabyte(1u << 20, std::byte{7});
  for (int round = 0; round < 20; ++round) {
    BOOST_TEST(write(*disk, 1000, megabyte) == 0);
    BOOST_TEST(zero(*disk, 1000, 256) == 0);
  }
  BOOST_TEST(disk->file_space().used() == 0u);
  BOOST_TEST(disk->file_space().end() <= qcow2::data_begin(disk_bytes) + 256);
  auto status = io::run(*io, io::status(*io, disk->fd(), "overlay"));
  BOOST_TEST(status->allocated_bytes <= 64u << 10);
}

BOOST_AUTO_TEST_CASE(a_trimmed_cluster_hides_what_is_below) {
  auto below = base(uuid::random(), {{9, 1}});
  auto disk = branch(uuid::random(), below);
  BOOST_TEST(zero(*disk, 8, 4) == 0);
  BOOST_TEST((read(*disk, 9) == cluster_of(0)));
  BOOST_TEST((disk->written().extents() == std::vector<own_extent>{{9, 1, own_extent::zeros}}));
}

BOOST_AUTO_TEST_CASE(a_write_beyond_the_limit_is_refused_and_the_disk_is_not_sealed) {
  own_bytes_max = 3 * cluster_bytes;
  auto disk = branch(uuid::random(), nullptr);
  BOOST_TEST(write(*disk, 0, clean_superblock()) == 0);
  BOOST_TEST(write(*disk, 10, cluster_of(1)) == 0);
  BOOST_TEST(write(*disk, 11, content(2 * cluster_bytes, std::byte{1})) == ENOSPC);
  BOOST_TEST((read(*disk, 11) == cluster_of(0)));
  BOOST_TEST(write(*disk, 10, cluster_of(2)) == 0); // nothing new
  auto done = try_seal(*disk, uuid{});
  BOOST_REQUIRE(done.has_error());
  BOOST_TEST((done.error().code == make_error_code(ec::too_large)));
  BOOST_TEST(done.error().text.find("12288") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(random_work_reads_as_a_model_says_through_generations) {
  std::mt19937 random{20261121};
  auto pick = [&](cluster_number below_this) {
    return std::uniform_int_distribution<cluster_number>{1, below_this - 1}(random);
  };
  constexpr cluster_number span = 2000; // crosses leaves of the map
  model expected{{0, 0}};
  auto image = uuid::random();
  auto index = base(image, {});
  for (int generation = 0; generation < 12; ++generation) {
    auto id = uuid::random();
    auto disk = branch(id, index);
    BOOST_TEST(write(*disk, 0, clean_superblock(1, 100)) == 0);
    for (int step = 0; step < 150; ++step) {
      auto first = pick(span);
      auto count = std::min(pick(40), span - first);
      if (pick(4) == 1) {
        BOOST_TEST(zero(*disk, first, count) == 0);
        for (auto c = first; c < first + count; ++c) {
          expected[c] = 0;
        }
      } else {
        content data;
        for (auto c = first; c < first + count; ++c) {
          expected[c] = static_cast<std::uint8_t>(pick(256) % 3); // often zeros, often the same
          auto one = cluster_of(expected[c]);
          data.insert(data.end(), one.begin(), one.end());
        }
        BOOST_TEST(write(*disk, first, data) == 0);
      }
    }
    auto check = [&](overlay& shown) {
      auto all = read(shown, 0, span);
      for (cluster_number c = 1; c < span; ++c) {
        auto want = expected.contains(c) ? expected[c] : std::uint8_t{0};
        if (all[c * cluster_bytes] != static_cast<std::byte>(want) ||
            all[(c + 1) * cluster_bytes - 1] != static_cast<std::byte>(want)) {
          BOOST_FAIL("generation " << generation << ", cluster " << c);
        }
      }
    };
    check(*disk);
    auto done = sealed(*disk, image);
    BOOST_REQUIRE(done.index);
    disk.reset();
    image = id;
    index = done.index;
    auto child = branch(uuid::random(), index);
    check(*child);
    must("qemu-img check " + file_of(image).string());
  }
  // Another program reads the same through the chain of files.
  auto raw = dir.path() / "flat.raw";
  must("qemu-img convert -O raw " + file_of(image).string() + " " + raw.string());
  auto child = branch(uuid::random(), index);
  auto ours = read(*child, 0, span);
  std::vector<std::byte> theirs(ours.size());
  auto file = storage::file::open(raw, O_RDONLY);
  BOOST_REQUIRE(file);
  BOOST_REQUIRE(file->read_at(0, theirs));
  BOOST_TEST((ours == theirs));
}

BOOST_AUTO_TEST_SUITE_END()
