#include "tests/actors/instance_fixture.hpp"

#include <boost/test/unit_test.hpp>

using namespace coppice;
using namespace std::chrono_literals;

BOOST_FIXTURE_TEST_SUITE(instance_suite, test::instance_fixture)

BOOST_AUTO_TEST_CASE(a_run_goes_all_the_way_to_a_sealed_image) {
  start();
  BOOST_TEST(said->started == 1);
  started();
  BOOST_TEST(said->executing == 1);
  output("hi");
  exited(7);
  finished();
  BOOST_REQUIRE(said->outcome.has_value());
  auto view = said->outcome->view();
  BOOST_TEST(view->isSuccess());
  BOOST_TEST(view->getResult().getExitCode() == 7);
  BOOST_TEST(view->getHasImage());
  BOOST_TEST((uuid::from(view->getImage().getId()) == result_image));
  BOOST_TEST((uuid::from(view->getImage().getParent()) == image));
  BOOST_TEST(view->getImage().getDepth() == 4u);
  BOOST_TEST((script->stops == std::vector<bool>{false}));
  BOOST_TEST(told->discarded.empty());
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(a_disposable_run_keeps_nothing) {
  start([](auto r) { r.setDisposable(true); });
  started();
  exited();
  finished();
  BOOST_TEST(!said->outcome->view()->getHasImage());
  BOOST_TEST((script->stops == std::vector<bool>{false}));
  BOOST_TEST((told->discarded == std::vector{result_image}));
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(a_vm_that_does_not_boot_fails_the_run) {
  script->boots = false;
  start();
  BOOST_TEST(error().find("kernel panic") != std::string::npos);
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(a_vm_that_has_died_while_it_waited_is_replaced) {
  script->dead = 2;
  script->next_run = 2;
  start();
  started();
  exited();
  finished();
  BOOST_REQUIRE(said->outcome.has_value());
  BOOST_TEST(said->outcome->view()->getHasImage());
  BOOST_TEST(pool_said->made.size() == 3u);
  BOOST_TEST((told->discarded == std::vector{result_image, result_image}));
}

BOOST_AUTO_TEST_CASE(a_vm_that_dies_as_it_is_taken_is_replaced) {
  script->start = proto::VmStart::POOL;
  pool_said->dying = 1;
  start();
  started();
  exited();
  finished();
  BOOST_REQUIRE(said->outcome.has_value());
  BOOST_TEST(said->outcome->view()->getHasImage());
  BOOST_TEST(pool_said->made.size() == 2u);
}

BOOST_AUTO_TEST_CASE(a_vm_that_dies_before_its_first_word_is_replaced) {
  script->start = proto::VmStart::POOL;
  start();
  vm_fails("killed");
  BOOST_TEST(pool_said->made.size() == 2u);
  BOOST_TEST((script->stops == std::vector<bool>{false}));
  guest([](auto m) { m.setMounted(); });
  vm_fails("killed");
  BOOST_TEST(error().find("killed") != std::string::npos);
  BOOST_TEST(pool_said->made.size() == 2u);
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(a_vm_that_takes_no_orders_is_replaced) {
  script->start = proto::VmStart::POOL;
  script->deaf = 1;
  start();
  BOOST_TEST(pool_said->made.size() == 2u);
  started();
  exited();
  finished();
  BOOST_TEST(error().empty());
}

BOOST_AUTO_TEST_CASE(a_booted_vm_that_dies_fails_the_run) {
  script->start = proto::VmStart::COLD;
  start();
  vm_fails("killed");
  BOOST_TEST(error().find("killed") != std::string::npos);
  BOOST_TEST(pool_said->made.size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_run_does_not_use_up_vms_for_ever) {
  script->dead = 100;
  start();
  BOOST_TEST(error().find("died while it waited") != std::string::npos);
  BOOST_TEST(pool_said->made.size() == instance_state::takes_max);
  BOOST_TEST(said->gone == 1);
}

BOOST_AUTO_TEST_CASE(the_timer_of_a_long_run_does_not_outlive_it_for_long) {
  start([](auto r) { r.setTimeoutSeconds(3600); });
  started();
  advance(100s);
  exited();
  finished();
  BOOST_TEST(said->outcome.has_value());
  check_all_given_back();
  BOOST_TEST(sched.clock().has_pending_timeout());
  advance(instance_state::deadline_step);
  BOOST_TEST(!sched.clock().has_pending_timeout());
}

BOOST_AUTO_TEST_CASE(a_restored_vm_whose_agent_does_not_answer_is_replaced) {
  script->start = proto::VmStart::POOL;
  start();
  advance(9s);
  BOOST_TEST(pool_said->made.size() == 1u);
  advance(2s);
  BOOST_TEST(pool_said->made.size() == 2u);
  BOOST_TEST((script->stops == std::vector<bool>{false}));
  BOOST_TEST((told->discarded == std::vector{result_image}));
  guest([](auto m) { m.setMounted(); });
  advance(40s); // from its first word on it has the usual time
  started();
  exited();
  finished();
  BOOST_REQUIRE(said->outcome.has_value());
  BOOST_TEST(said->outcome->view()->getHasImage());
  BOOST_TEST(pool_said->made.size() == 2u);
}

BOOST_AUTO_TEST_CASE(the_last_of_many_silent_vms_has_the_usual_time_and_fails_the_run) {
  script->start = proto::VmStart::TEMPLATE;
  start();
  for (int seconds = 0; seconds < 21; ++seconds) {
    advance(1s);
  }
  BOOST_TEST(pool_said->made.size() == instance_state::takes_max);
  advance(50s);
  BOOST_TEST(!said->outcome.has_value());
  advance(11s);
  BOOST_TEST(error().find("in time") != std::string::npos);
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(an_abort_while_a_silent_vm_is_replaced_gives_everything_back) {
  script->start = proto::VmStart::POOL;
  script->holds_stop = true;
  start();
  advance(11s);
  BOOST_TEST(script->stops.size() == 1u);
  self->send(work, make_frame<proto::AbortWork>());
  drain();
  BOOST_TEST(said->gone == 0);
  caf::anon_send(vm(), make_frame<proto::VmStopped>());
  drain();
  script->holds_stop = false;
  caf::anon_send(vm(), make_frame<proto::VmStopped>());
  drain();
  BOOST_TEST(pool_said->made.size() == 1u);
  check_all_given_back();
}

BOOST_AUTO_TEST_SUITE_END()
