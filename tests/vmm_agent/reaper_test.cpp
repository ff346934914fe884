#include "vmm/agent/reaper.hpp"

#include <boost/test/unit_test.hpp>
#include <sys/wait.h>

using namespace coppice::agent;

BOOST_AUTO_TEST_SUITE(reaper)

BOOST_AUTO_TEST_CASE(nobody_but_the_first_process_of_a_machine_may_kill_all) {
  auto ended = end_all_processes([](pid_t, int, const rusage&) {});
  BOOST_REQUIRE(!ended);
  BOOST_TEST(ended.error().code.value() == EPERM);
}

BOOST_AUTO_TEST_CASE(without_children_there_is_nothing_to_reap) {
  BOOST_TEST(
      (reap([](pid_t, int, const rusage&) { BOOST_ERROR("there was one"); }) == children::none));
}

BOOST_AUTO_TEST_CASE(one_call_collects_a_share_and_says_that_more_have_ended) {
  constexpr int count = 100;
  for (int i = 0; i < count; ++i) {
    auto pid = ::fork();
    BOOST_REQUIRE(pid >= 0);
    if (pid == 0) {
      ::_exit(7);
    }
    siginfo_t ended{};
    BOOST_REQUIRE(::waitid(P_PID, static_cast<id_t>(pid), &ended, WEXITED | WNOWAIT) == 0);
  }
  int collected = 0;
  auto each = [&](pid_t, int status, const rusage&) {
    ++collected;
    BOOST_TEST(WEXITSTATUS(status) == 7);
  };
  BOOST_TEST((reap(each) == children::ended));
  BOOST_TEST(collected < count);
  BOOST_TEST((reap(each) == children::none));
  BOOST_TEST(collected == count);
}

BOOST_AUTO_TEST_SUITE_END()
