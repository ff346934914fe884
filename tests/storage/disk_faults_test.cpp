#define BOOST_TEST_MODULE disk_faults
#include "storage/error.hpp"
#include "storage/qcow2/sealed_file.hpp"
#include "tests/storage/disk_fixture.hpp"
#include "tests/storage/watched_engine.hpp"
#include "tests/support/faulty_ring.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <optional>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

namespace {

constexpr int cut_in_half = -1; ///< once: the rest is written by the caller
constexpr int cut_for_ever = -2;

std::string name_of(int fault) {
  return fault == cut_in_half    ? "one short write"
         : fault == cut_for_ever ? "short writes for ever"
                                 : std::string{std::strerror(fault)};
}

/// A run and its seal on a ring on which one request after the other fails.
struct faults_fixture : disk_fixture {
  faults_fixture() : disk_fixture{std::make_unique<faulty_ring>(default_ring())} {
    parent = uuid::random();
    below = base(parent, {{5, 1}, {6, 2}, {7, 3}});
    other = branch(uuid::random(), below);
    BOOST_REQUIRE_EQUAL(write(*other, 9, cluster_of(99)), 0);
  }

  faulty_ring& faulty() {
    return static_cast<faulty_ring&>(*io);
  }

  /// All that one run asks of the ring, in the same order each time.
  result<sealed_image> run_on(overlay& disk) {
    files.forget(parent); // so that it is opened anew
    static_cast<void>(write(disk, 0, clean_superblock(1, 7)));
    static_cast<void>(write(disk, 5, cluster_of(9)));
    static_cast<void>(write(disk, 6, cluster_of(2))); // as in the parent: given back by the seal
    content long_write(3 * cluster_bytes, std::byte{5});
    static_cast<void>(write(disk, 1000, long_write));
    static_cast<void>(write(disk, 5, cluster_of(8)));
    static_cast<void>(zero(disk, 1001, 1));
    static_cast<void>(zero(disk, 7, 1));
    static_cast<void>(write(disk, 2000, cluster_of(6)));
    return try_seal(disk, parent);
  }

  void check_whole(const uuid& id) {
    auto bytes = qcow2::open_bytes(file_of(id));
    BOOST_REQUIRE(bytes);
    auto found = qcow2::read_sealed(**bytes);
    BOOST_REQUIRE_MESSAGE(found, (found ? "" : found.error().text));
    BOOST_TEST(qcow2::verify_content(**bytes, *found).has_value());
    auto same = block_index::of_child(below, id, found->own);
    auto child = branch(uuid::random(), same);
    BOOST_TEST((read(*child, 5) == cluster_of(8)));
    BOOST_TEST((read(*child, 6) == cluster_of(2)));
    BOOST_TEST((read(*child, 7) == cluster_of(0)));
    BOOST_TEST((read(*child, 1000) == cluster_of(5)));
    BOOST_TEST((read(*child, 1001) == cluster_of(0)));
    BOOST_TEST((read(*child, 1002) == cluster_of(5)));
    BOOST_TEST((read(*child, 2000) == cluster_of(6)));
  }

  /// What the store does with a run that was not sealed.
  void discard(const uuid& id) {
    faulty().calm();
    auto removed = io::run(*io, io::remove(*io, file_of(id, ".overlay").string()));
    BOOST_TEST(removed.has_value());
  }

  uuid parent;
  std::shared_ptr<const block_index> below;
  std::unique_ptr<overlay> other; ///< of another run, on the same ring
};

bool can_fail(const faulty_ring::entry& one) {
  return one.what != io_request::call::close; // whose result nobody can do anything about
}

bool can_be_short(const faulty_ring::entry& one) {
  return one.what == io_request::call::read || one.what == io_request::call::write;
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(disk_faults_suite, faults_fixture)

BOOST_AUTO_TEST_CASE(a_run_in_which_any_request_fails_leaves_no_image_and_harms_no_other) {
  faulty().clear_log();
  auto good = uuid::random();
  {
    auto disk = branch(good, below);
    BOOST_REQUIRE(run_on(*disk).has_value());
  }
  const auto asked = faulty().log();
  check_whole(good);
  std::size_t tried = 0;
  std::size_t sealed_all_the_same = 0;
  for (int fault : {ENOSPC, EIO, cut_in_half, cut_for_ever}) {
    auto is_hit = fault > 0 ? can_fail : can_be_short;
    auto requests = static_cast<std::size_t>(std::count_if(asked.begin(), asked.end(), is_hit));
    for (std::size_t nth = 1; nth <= requests; ++nth) {
      auto id = uuid::random();
      auto disk = branch(id, below);
      std::optional<faulty_ring::entry> struck;
      if (fault > 0) {
        faulty().fail(is_hit, nth, fault);
      } else {
        faulty().cut(is_hit, nth, fault == cut_in_half ? cluster_bytes / 2 : 0,
                     fault == cut_in_half ? 1 : faulty_ring::for_ever);
      }
      ++tried;
      faulty().clear_log();
      auto done = run_on(*disk);
      std::size_t count = 0;
      for (const auto& one : faulty().log()) {
        if (is_hit(one) && ++count == nth) {
          struck = one;
        }
      }
      auto where = name_of(fault) + " at request " + std::to_string(nth) + ", call " +
                   (struck ? std::to_string(static_cast<int>(struck->what)) + " of " + struck->name
                           : "none");
      BOOST_TEST_CONTEXT(where) {
        disk.reset();
        faulty().calm();
        if (done) {
          // Only what is done once more, or changes nothing: a write cut short, a look.
          BOOST_TEST(fault == cut_in_half);
          ++sealed_all_the_same;
          check_whole(id);
        } else {
          BOOST_TEST(!done.error().text.empty());
          if (fault == ENOSPC) {
            BOOST_TEST((done.error().code == make_error_code(ec::no_space)),
                       done.error().text << " is not said to be no_space");
          }
          if (fault == EIO) {
            BOOST_TEST((done.error().code == make_error_code(ec::io)), done.error().text);
          }
          BOOST_TEST(!std::filesystem::exists(file_of(id)));
          discard(id);
          BOOST_TEST(!std::filesystem::exists(file_of(id, ".overlay")));
        }
        // The other run has what it had, and goes on.
        BOOST_TEST((read(*other, 9) == cluster_of(99)));
        BOOST_TEST((read(*other, 5) == cluster_of(1)));
        BOOST_TEST(write(*other, 10, cluster_of(98)) == 0);
        BOOST_TEST(!other->trouble().has_value());
      }
    }
  }
  // And so does everything, when the trouble is over.
  auto id = uuid::random();
  auto disk = branch(id, below);
  BOOST_REQUIRE(run_on(*disk).has_value());
  check_whole(id);
  BOOST_TEST(write(*other, 0, clean_superblock()) == 0);
  BOOST_TEST(try_seal(*other, parent).has_value());
  std::cout << tried << " faults in a run of " << asked.size() << " requests; "
            << sealed_all_the_same << " seals succeeded all the same\n";
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(import_faults_suite, watched_engine)

BOOST_AUTO_TEST_CASE(an_import_in_which_any_request_fails_leaves_no_image_and_is_told) {
  auto is_hit = [folder = dir.path().string()](const faulty_ring::entry& one) {
    return can_fail(one) && one.name.starts_with(folder); // not the loop's bell
  };
  const auto before = files_in_images();
  std::vector<faulty_ring::entry> asked;
  {
    auto id = import();
    on_loop([](faulty_ring& ring) { ring.clear_log(); });
    auto done = seal_import(*disks, id);
    BOOST_REQUIRE_MESSAGE(done, (done ? "" : done.error().text));
    on_loop([&](faulty_ring& ring) { asked = ring.log(); });
    BOOST_REQUIRE(storage::test::discard(*disks, id));
  }
  const auto requests = static_cast<std::size_t>(std::count_if(asked.begin(), asked.end(), is_hit));
  BOOST_REQUIRE_GE(requests,
                   8u); // open, look, read, sync, look, rename, open and sync of the folder
  for (int fault : {ENOSPC, EIO}) {
    for (std::size_t nth = 1; nth <= requests; ++nth) {
      BOOST_TEST_CONTEXT(name_of(fault) << " at request " << nth) {
        auto id = import();
        on_loop([&](faulty_ring& ring) { ring.fail(is_hit, nth, fault); });
        auto done = seal_import(*disks, id);
        on_loop([](faulty_ring& ring) { ring.calm(); });
        check_fails(done, fault == ENOSPC ? ec::no_space : ec::io, dir.path().string());
        BOOST_TEST(!std::filesystem::exists(file_of(id)));
        BOOST_TEST(!disks->indexes().get(id).has_value());
        BOOST_TEST(storage::test::discard(*disks, id).has_value());
        BOOST_TEST(files_in_images() == before);
      }
    }
  }
  auto id = import();
  BOOST_REQUIRE(seal_import(*disks, id));
  BOOST_TEST(std::filesystem::exists(file_of(id)));
  std::cout << 2 * requests << " faults in an import\n";
}

BOOST_AUTO_TEST_CASE(a_sealed_import_is_durable_before_its_name_and_its_name_before_the_answer) {
  auto id = import();
  on_loop([](faulty_ring& ring) { ring.clear_log(); });
  std::vector<std::string> steps;
  std::promise<void> told;
  disks->seal_import(id, [&](const result<sealed_image>&) { told.set_value(); });
  told.get_future().wait();
  on_loop([&](faulty_ring& ring) {
    for (const auto& one : ring.log()) {
      auto name = std::filesystem::path{one.name}.filename().string();
      if (one.what == io_request::call::sync_data || one.what == io_request::call::sync) {
        steps.push_back("sync " + name);
      } else if (one.what == io_request::call::rename) {
        steps.push_back("rename " + name);
      }
    }
  });
  const auto name = id.text() + ".overlay";
  BOOST_TEST(steps == (std::vector<std::string>{"sync " + name, "rename " + name,
                                                "sync " + dir.path().filename().string()}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_SUITE_END()
