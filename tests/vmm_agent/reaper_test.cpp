#include "vmm/agent/reaper.hpp"

#include <boost/test/unit_test.hpp>

using namespace coppice::agent;

BOOST_AUTO_TEST_SUITE(reaper)

BOOST_AUTO_TEST_CASE(nobody_but_the_first_process_of_a_machine_may_kill_all) {
  auto ended = end_all_processes([](pid_t, int, const rusage&) {});
  BOOST_REQUIRE(!ended);
  BOOST_TEST(ended.error().code.value() == EPERM);
}

BOOST_AUTO_TEST_CASE(without_children_there_is_nothing_to_reap) {
  BOOST_TEST(reap([](pid_t, int, const rusage&) { BOOST_ERROR("there was one"); }));
}

BOOST_AUTO_TEST_SUITE_END()
