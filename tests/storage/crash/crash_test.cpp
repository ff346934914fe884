#define BOOST_TEST_MODULE crash
#include "tests/storage/crash/exploration.hpp"
#include "tests/storage/crash/store_at_work.hpp"

#include <boost/test/unit_test.hpp>

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;
using namespace coppice::storage::test::crash;
namespace fs = std::filesystem;

namespace {

bool is_full() {
  return std::getenv("COPPICE_TEST_FULL") != nullptr;
}

/// Thousands of states are built: in memory, where there is a file system for that.
struct in_memory {
  in_memory() {
    std::error_code none;
    if (fs::is_directory("/dev/shm", none)) {
      ::setenv("TMPDIR", "/dev/shm", 1);
    }
  }
};

std::map<std::string, ino_t> inodes_in(const fs::path& root) {
  std::map<std::string, ino_t> out;
  for (const auto& found : fs::recursive_directory_iterator{root}) {
    struct stat status {};
    BOOST_REQUIRE(::lstat(found.path().c_str(), &status) == 0);
    out.emplace(fs::relative(found.path(), root).string(), status.st_ino);
  }
  return out;
}

/// Syncs of which one alone may be left out.
struct expendable {
  std::string text;         ///< a part of theirs
  bool all_of_them = false; ///< may even be left out together: they are for another case
};

/// A store that was open before has these names already; they are for one whose first start was
/// killed.
const std::vector<expendable> of_a_start{{"sync of folder .", true},
                                         {"sync of folder catalog", true}};

std::vector<expendable> with(std::vector<expendable> some, std::vector<expendable> others) {
  some.insert(some.end(), others.begin(), others.end());
  return some;
}

/// A piece of work, recorded, and then cut at every step.
struct crash_fixture {
  scratch dir;
  store_at_work work{dir / "state"};

  using body = std::function<void()>;

  crash_fixture() {
    BOOST_REQUIRE(fs::create_directory(dir / "state"));
  }

  void explore(const body& before, const body& recorded,
               const std::vector<expendable>& expected = {}) {
    before();
    work.close();
    fs::copy(dir / "state", dir / "first", fs::copy_options::recursive);
    auto inodes = inodes_in(dir / "state");
    trace steps{dir / "state"};
    work.record(steps);
    {
      recording on{steps};
      recorded();
    }
    work.close();
    exploration all{steps, dir / "first", inodes, dir / "cut",
                    [&](const fs::path& state, std::size_t notes) {
                      return work.judge(state, notes);
                    }};
    BOOST_REQUIRE_EQUAL(all.missed(), "");
    auto begun = std::chrono::steady_clock::now();
    if (is_full()) {
      all.random_subsets(300);
    }
    auto done = all.run();
    for (const auto& finding : done.findings) {
      BOOST_ERROR(finding);
    }
    std::cout << "  " << done.steps << " steps, cut at " << done.points << ": " << done.states
              << " states, " << done.distinct << " of them distinct";
    if (done.findings.empty()) {
      all.random_subsets(exploration::random_subsets_default);
      leave_out_each(all, steps, expected);
    }
    auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now() - begun);
    std::cout << "; " << took.count() << " ms\n";
  }

  static void leave_out_each(exploration& all, const trace& steps,
                             const std::vector<expendable>& expected) {
    std::size_t noticed = 0;
    std::map<const expendable*, std::set<std::size_t>> groups;
    auto syncs = all.syncs();
    for (auto number : syncs) {
      auto text = steps.steps()[number].text();
      auto known = std::find_if(expected.begin(), expected.end(), [&](const auto& each) {
        return text.find(each.text) != text.npos;
      });
      if (known != expected.end()) {
        groups[&*known].insert(number);
        continue;
      }
      auto found = all.finding_without({number});
      noticed += found.empty() ? 0 : 1;
      BOOST_CHECK_MESSAGE(!found.empty(),
                          "without step " << number << ", " << text << ": nobody noticed");
    }
    std::size_t left = 0;
    for (const auto& [kind, numbers] : groups) {
      left += numbers.size();
      // That nobody notices takes all the states.
      if (kind->all_of_them && !is_full()) {
        continue;
      }
      auto found = all.finding_without(numbers);
      BOOST_CHECK_MESSAGE(found.empty() == kind->all_of_them,
                          "without any " << kind->text << ": "
                                         << (found.empty() ? "nobody noticed" : found));
    }
    std::cout << "; " << syncs.size() << " syncs, " << noticed << " omissions found, " << left
              << " expendable";
  }
};

} // namespace

/// The commit that makes the tables tells nobody anything; the next one makes it durable.
const std::vector<expendable> of_the_schema{{"durable write to catalog/data.mdb at 4128", true}};

BOOST_TEST_GLOBAL_FIXTURE(in_memory);

BOOST_FIXTURE_TEST_SUITE(crash_suite, crash_fixture)

BOOST_AUTO_TEST_CASE(a_first_start_that_is_cut_can_be_made_again) {
  explore([] {},
          [&] {
            work.open();
            work.begin_operation();
          },
          of_the_schema);
}

BOOST_AUTO_TEST_CASE(a_start_after_one_that_was_killed_makes_its_folders_durable) {
  explore([] {},
          [&] {
            for (auto name : {"images", "blobs", "uploads", "tmp", "catalog"}) {
              BOOST_REQUIRE_EQUAL(::mkdir((dir / "state" / name).c_str(), 0700), 0);
            }
            work.open();
            work.begin_operation();
          },
          of_the_schema);
}

BOOST_AUTO_TEST_CASE(a_run_is_whole_or_not_there) {
  uuid base;
  explore(
      [&] {
        work.open();
        base = work.branch({}, {{{5, 1}, {6, 2}, {7, 3}, {8, 4}}, {}, {}, {}});
      },
      [&] {
        work.open();
        work.branch(base, {{{5, 9}, {6, 2}, {70'000, 7}}, {5, 70'000}, {7}, {}});
      },
      of_a_start);
}

BOOST_AUTO_TEST_CASE(catalog_commits_are_whole_or_not_there) {
  uuid base;
  explore(
      [&] {
        work.open();
        base = work.branch({}, {{{5, 1}}, {}, {}, {}});
      },
      [&] {
        work.open();
        auto operation = work.begin_operation();
        work.write_events(operation, 20);
        work.fail_operation(operation);
        work.tag(base, "latest");
      },
      of_a_start);
}

BOOST_AUTO_TEST_CASE(runs_that_end_at_one_time_share_their_syncs) {
  uuid base;
  explore(
      [&] {
        work.open();
        base = work.branch({}, {{{5, 1}, {6, 2}}, {}, {}, {}});
      },
      [&] {
        work.open();
        std::vector<uuid> operations;
        for (int i = 0; i < 3; ++i) {
          operations.push_back(work.begin_operation());
        }
        auto done = work.run({{base, {{{5, 3}}, {}, {}, {}}},
                              {base, {{{6, 4}, {8, 5}}, {}, {}, {}}},
                              {{}, {{{5, 6}}, {}, {}, {}}}});
        for (std::size_t i = 0; i < done.size(); ++i) {
          done[i].operation = operations[i];
        }
        work.finish(done);
      },
      with(of_a_start, {{"sync of folder images", false}}));
}

BOOST_AUTO_TEST_CASE(a_run_that_makes_a_checkpoint_is_whole_or_not_there) {
  uuid parent;
  explore(
      [&] {
        work.open();
        auto base = work.branch({}, {{{5, 1}}, {}, {}, {}});
        store_at_work::change much;
        for (cluster_number i = 0; i < 805; ++i) {
          // Far apart, in an order of their own: each is a run of many bytes in the index.
          much.written[20'000 + (i * 7919 % 805) * 20'000] = static_cast<std::uint8_t>(i % 250 + 1);
        }
        much.spots = {20'000, 400'000, 6'200'000};
        parent = work.branch(base, much);
        BOOST_REQUIRE(!work.is_checkpoint(parent));
      },
      [&] {
        work.open();
        store_at_work::change more;
        for (cluster_number i = 0; i < 12; ++i) {
          more.written[30'000 + i * 40'000] = 7;
        }
        auto child = work.branch(parent, more);
        BOOST_REQUIRE(work.is_checkpoint(child));
        work.branch(child, {{{5, 2}}, {}, {}, {}});
      },
      of_a_start);
}

BOOST_AUTO_TEST_CASE(an_import_is_whole_or_not_there) {
  explore([&] { work.open(); },
          [&] {
            work.open();
            auto base = work.import({{5, 1}, {6, 2}, {70'000, 3}});
            work.branch(base, {{{6, 4}}, {}, {}, {}});
          },
          of_a_start);
}

BOOST_AUTO_TEST_CASE(an_upload_is_whole_or_not_there) {
  explore([&] { work.open(); },
          [&] {
            work.open();
            work.upload(std::string(4000, 'x') + "!");
            work.upload("small");
          },
          of_a_start);
}

BOOST_AUTO_TEST_CASE(an_upload_of_bytes_whose_name_is_not_yet_durable_makes_it_so) {
  // What was uploaded is not needed: the file is there, but for its name.
  explore(
      [&] {
        work.open();
        write_at(dir / "state" / "uploads" / "killed", 0, bytes_of("small"));
      },
      [&] {
        work.open();
        auto blobs = dir / "state" / "blobs";
        // sha256sum
        auto name = "81db8ebbbbc69c6c6ad4a6aa92b76e0c08af547da236b9e2c9dbe1d8285a8130";
        BOOST_REQUIRE_EQUAL(
            ::rename((dir / "state" / "uploads" / "killed").c_str(), (blobs / name).c_str()), 0);
        work.upload("small");
      },
      with(of_a_start, {{"sync of uploads/", true}}));
}

BOOST_AUTO_TEST_CASE(deleted_images_stay_deleted_and_their_children_whole) {
  uuid base;
  uuid middle;
  uuid leaf;
  uuid other;
  explore(
      [&] {
        work.open();
        base = work.branch({}, {{{5, 1}, {6, 2}, {7, 3}, {8, 4}}, {}, {}, {}});
        middle = work.branch(base, {{{6, 9}, {7, 9}}, {}, {}, {}});
        leaf = work.branch(middle, {{{7, 8}}, {}, {}, {}});
        other = work.branch(leaf, {{{9, 8}, {5, 7}}, {}, {}, {}});
      },
      [&] {
        work.open();
        work.remove_image(base); // its children need the file
        work.remove_image(middle);
        work.reclaim(middle);
        work.remove_image(other);
        work.remove_image(leaf); // and with it all of them
      },
      of_a_start);
}

BOOST_AUTO_TEST_SUITE_END()
