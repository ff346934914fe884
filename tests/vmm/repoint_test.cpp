#define BOOST_TEST_MODULE vmm_repoint
#include <boost/test/unit_test.hpp>

#include "tests/vmm/served_fixture.hpp"
#include "tests/vmm/template_copy.hpp"

#include <map>
#include <set>
#include <sstream>

// Restored guests whose disk is pointed elsewhere behind their back while they stand still.

using namespace coppice;
using namespace coppice::tests;
using coppice::vmm::machine;

BOOST_FIXTURE_TEST_SUITE(repoint, served_fixture)

BOOST_AUTO_TEST_CASE(a_warmed_and_paused_guest_runs_on_another_disk_than_it_was_warmed_on) {
  auto made = must_build();
  for (int round = 0; round < 3; ++round) {
    auto [slot, disk] = open_slot();
    const auto warm = attach(slot);
    auto one = start(std::move(disk), made);
    BOOST_REQUIRE_MESSAGE(one->wait_ready(), one->failure());
    const auto warmed = one->run("/sibling", "warm");
    BOOST_TEST(warmed.exit_code == 0, warmed.failure);
    BOOST_REQUIRE(ask(*one, &machine::pause).has_value());
    discard(warm);
    const auto own = attach(slot);
    BOOST_REQUIRE(ask(*one, &machine::resume).has_value());
    // /sibling refuses to write over a /sample: the warm disk's must not be seen any more.
    const auto done = one->run("/sibling", "own");
    BOOST_REQUIRE_MESSAGE(done.exit_code == 0, done.failure + done.errors);
    BOOST_TEST(done.is_clean);
    BOOST_TEST(done.output != warmed.output);
    BOOST_TEST(done.output.find("host own\n") != std::string::npos);
    seal_branch(own);
    BOOST_TEST(sample_of_image(own) == done.output);
    one->vm->quit();
    BOOST_REQUIRE(one->wait_gone());
    BOOST_TEST(one->failure() == "");
    disks->close_slot(slot);
  }
}

// A guest is saved while its image is mounted read-only and partly in memory; others start from
// that, each with a branch of its own, and make it writable.
BOOST_AUTO_TEST_CASE(guests_that_were_saved_with_their_image_mounted_write_only_to_their_own) {
  auto plain = must_build();
  auto parts = copy_of(*plain);
  {
    auto [slot, disk] = open_slot();
    const auto none = attach(slot);
    auto maker = guest::make();
    auto how = options;
    how.from = plain;
    auto started =
        machine::start(loop, how, std::move(disk),
                       vmm::template_mould{parts.ram.get(), parts.state.get()}, maker->callbacks());
    BOOST_REQUIRE_MESSAGE(started.has_value(), (started ? std::string{} : started.error().text));
    maker->own(*started);
    BOOST_REQUIRE_MESSAGE(maker->wait_ready(), maker->failure());
    maker->begin_with([](proto::ToGuest::Start::Builder start) {
      start.setHoldDisk(true);
      start.initProcess().setCommand("/sibling");
    });
    const auto prepared = maker->end();
    BOOST_REQUIRE_MESSAGE(prepared.is_clean, prepared.failure);
    BOOST_TEST(prepared.exit_code != 0); // it may not write
    BOOST_REQUIRE(ask(*maker, &machine::save).has_value());
    maker->vm->quit();
    BOOST_REQUIRE(maker->wait_gone());
    BOOST_TEST(seal_branch(none).is_unchanged);
    disks->close_slot(slot);
  }
  auto warm = vmm::vm_template::make(std::move(parts));
  BOOST_REQUIRE_MESSAGE(warm.has_value(), (warm ? std::string{} : warm.error().text));

  std::map<std::string, std::set<std::string>> seen;
  std::set<std::string> superblocks;
  for (const bool is_warm : {false, true, true}) {
    auto [slot, disk] = open_slot();
    const auto own = attach(slot);
    auto one = start(std::move(disk), is_warm ? *warm : plain);
    BOOST_REQUIRE_MESSAGE(one->wait_ready(), one->failure());
    one->skip_runs(is_warm ? 1 : 0);
    const auto done = one->run("/sibling", "own");
    BOOST_REQUIRE_MESSAGE(done.exit_code == 0, done.failure + done.errors);
    BOOST_TEST(done.is_clean);
    seal_branch(own);
    BOOST_TEST(sample_of_image(own) == done.output);
    superblocks.insert(superblock_of_seen());
    std::istringstream fields{done.output};
    for (std::string name, value; fields >> name >> value;) {
      if (name != "host" && name != "clock") {
        BOOST_TEST(seen[name].insert(value).second, name << ' ' << value);
      }
    }
    one->vm->quit();
    BOOST_REQUIRE(one->wait_gone());
    BOOST_TEST(one->failure() == "");
    disks->close_slot(slot);
  }
  BOOST_TEST(superblocks.size() == 1u); // as after an ordinary run, mounts counted and all
}

BOOST_AUTO_TEST_SUITE_END()
