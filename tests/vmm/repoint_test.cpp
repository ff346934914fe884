#define BOOST_TEST_MODULE vmm_repoint
#include <boost/test/unit_test.hpp>

#include "tests/vmm/served_fixture.hpp"

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

BOOST_AUTO_TEST_SUITE_END()
