#include "tests/actors/instance_fixture.hpp"

#include <boost/test/unit_test.hpp>

using namespace coppice;
using namespace std::chrono_literals;

BOOST_FIXTURE_TEST_SUITE(instance_end_suite, test::instance_fixture)

BOOST_AUTO_TEST_CASE(a_disk_that_is_not_clean_is_not_kept) {
  start();
  started();
  exited();
  finished(false);
  BOOST_TEST(error().find("unmount") != std::string::npos);
  BOOST_TEST((told->discarded == std::vector{result_image}));
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(the_result_does_not_wait_for_the_end_of_its_vm) {
  script->holds_stop = true;
  start();
  started();
  exited();
  finished();
  BOOST_REQUIRE(said->outcome.has_value());
  BOOST_TEST(said->outcome->view()->getHasImage());
  BOOST_TEST(said->gone == 0);
  BOOST_TEST(told->released.empty()); // its memory is not free yet
  self->send(vm(), make_frame<proto::VmStopped>());
  drain();
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(an_abort_waits_until_the_vm_is_gone) {
  script->holds_stop = true;
  start();
  started();
  self->send(work, make_frame<proto::AbortWork>());
  drain();
  BOOST_TEST(said->gone == 0);
  BOOST_TEST((script->stops == std::vector<bool>{false}));
  self->send(vm(), make_frame<proto::VmStopped>());
  drain();
  BOOST_TEST(!said->outcome.has_value());
  BOOST_TEST((told->discarded == std::vector{result_image}));
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(an_abort_before_the_pool_has_answered_gives_the_vm_back) {
  pool_said->is_held = true;
  start();
  self->send(work, make_frame<proto::AbortWork>());
  drain();
  BOOST_TEST(said->gone == 0);
  self->send(pool, make_frame<proto::Tick>());
  drain();
  BOOST_TEST((script->stops == std::vector<bool>{false}));
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(a_failure_is_told_when_its_overlay_is_gone) {
  script->holds_stop = true;
  start();
  started();
  vm_fails("No space left");
  BOOST_TEST(!said->outcome.has_value());
  self->send(vm(), make_frame<proto::VmStopped>());
  drain();
  BOOST_TEST((told->discarded == std::vector{result_image}));
  BOOST_TEST(error().find("No space left") != std::string::npos);
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(a_failure_is_told_even_when_the_vm_does_not_go) {
  script->holds_stop = true;
  start();
  started();
  vm_fails("QEMU hangs");
  advance(19s);
  BOOST_TEST(!said->outcome.has_value());
  advance(2s);
  BOOST_TEST(error().find("QEMU hangs") != std::string::npos);
  BOOST_TEST(said->gone == 0);
  BOOST_TEST(told->released.empty());
  self->send(vm(), make_frame<proto::VmStopped>());
  drain();
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(a_failed_vm_fails_the_run_once) {
  start();
  started();
  vm_fails("QEMU died");
  vm_fails("again");
  BOOST_TEST(error().find("QEMU died") != std::string::npos);
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(what_the_disk_had_refused_is_told_rather_than_what_the_vm_made_of_it) {
  told->disk_trouble = "cannot write to x.overlay: No space left on device";
  start();
  started();
  vm_fails("QEMU says ENOSPC");
  BOOST_TEST(error().find("x.overlay: No space left") != std::string::npos, error());
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(a_run_beyond_its_limit_hears_the_limit_and_the_use) {
  told->disk_trouble = "the disk's changes took 1234 bytes";
  told->is_beyond_limit = true;
  start([](auto r) { r.setMaxLayerBytes(777); });
  started();
  vm_fails("QEMU says ENOSPC");
  BOOST_TEST(error().find("max_layer_bytes, 777") != std::string::npos, error());
  BOOST_TEST(error().find("took 1234 bytes") != std::string::npos, error());
  BOOST_TEST(is_task_fault());
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(a_dead_supervisor_fails_the_run) {
  start();
  started();
  self->send_exit(vm(), caf::exit_reason::kill);
  drain();
  BOOST_TEST(error().find("supervisor") != std::string::npos);
  BOOST_TEST(!is_task_fault());
  check_all_given_back();
}

BOOST_AUTO_TEST_SUITE_END()
