#include "tests/actors/operation_fixture.hpp"
#include "tests/support/metric_text.hpp"

using namespace coppice;
using namespace coppice::test;

BOOST_FIXTURE_TEST_SUITE(operation_suite, operation_fixture)

BOOST_AUTO_TEST_CASE(a_good_run_ends_with_image_result_and_whole_event_log) {
  run_until_executing();
  BOOST_TEST((state() == status::EXECUTING));
  say(test::guest_output("hello\n"));
  say(success());
  BOOST_TEST((state() == status::SUCCESS));
  BOOST_TEST(has_image());
  auto record = stored(id);
  auto view = record.view();
  BOOST_TEST((uuid::from(view->getResultImage()) == result_image));
  BOOST_TEST(view->getResult().getStdout().getKeptBytes() == 6u);
  BOOST_TEST(view->getResult().getStdout().getTotalBytes() == 99u);
  auto page = events(id);
  auto log = page.view();
  std::vector<proto::Event::Which> kinds;
  for (auto e : log->getEvents()) {
    BOOST_TEST(e.getId() == kinds.size());
    kinds.push_back(e.which());
  }
  using enum proto::Event::Which;
  BOOST_TEST((kinds == std::vector{INIT, SPAWN, STDOUT, EXIT, TRUNCATED, SHUTDOWN, COMPLETION}));
  BOOST_TEST(view->getEventCount() == kinds.size());
  say(make_frame<proto::WorkGone>());
  BOOST_TEST(gone());
  BOOST_TEST(told->discarded.empty());
}

BOOST_AUTO_TEST_CASE(its_end_is_counted_and_its_whole_time_is_in_its_phases) {
  run_until_executing();
  advance(3s);
  say(edited(success(), [](proto::OperationOutcome::Builder r) {
    r.getResult().setTimedOut(true);
    r.initPhases().setExecUs(2'000'000);
    r.getPhases().setVmStart(proto::VmStart::POOL);
  }));
  auto record = stored(id);
  BOOST_TEST(record.view()->getPhases().getTotalUs() == 3'000'000u);
  auto text = metrics->text();
  BOOST_TEST(test::has_line(text, "coppice_runs_total{end=\"timeout\"} 1"));
  BOOST_TEST(test::has_line(text, "coppice_runs_total{end=\"success\"} 0"));
  BOOST_TEST(
      test::has_line(text, "coppice_run_phase_seconds_sum{phase=\"total\",vm_start=\"pool\"} 3"));
  BOOST_TEST(test::has_line(text, "coppice_end_commit_seconds_count 1"));
}

BOOST_AUTO_TEST_CASE(one_that_is_cancelled_while_it_waits_is_counted_as_cancelled) {
  ask<proto::OperationRecord>(op, make_frame<proto::CancelOperation>());
  BOOST_TEST(test::has_line(metrics->text(), "coppice_runs_total{end=\"cancelled\"} 1"));
}

BOOST_AUTO_TEST_CASE(cancel_is_durable_at_once_and_aborts_the_work) {
  run_until_executing();
  auto answer = cancel();
  BOOST_REQUIRE(answer);
  BOOST_TEST((state() == status::CANCELLED));
  BOOST_TEST((told->aborts == std::vector<std::string>{"cancelled"}));
  BOOST_TEST(!gone());
  say(make_frame<proto::WorkGone>());
  BOOST_TEST(gone());
}

BOOST_AUTO_TEST_CASE(an_image_sealed_after_the_cancel_is_thrown_away) {
  run_until_executing();
  BOOST_TEST(static_cast<bool>(cancel()));
  say(success());
  BOOST_TEST((state() == status::CANCELLED));
  BOOST_TEST(!has_image());
  BOOST_TEST((told->discarded == std::vector{result_image}));
}

BOOST_AUTO_TEST_CASE(a_second_cancel_is_a_conflict) {
  BOOST_TEST(static_cast<bool>(cancel()));
  BOOST_TEST(test::fails_with(cancel(), ec::conflict));
}

BOOST_AUTO_TEST_CASE(work_that_dies_without_a_word_fails_the_operation_and_frees_its_slot) {
  run_until_executing();
  self->send_exit(work, caf::exit_reason::kill);
  drain();
  BOOST_TEST((state() == status::FAILED));
  BOOST_TEST((told->released == std::vector{id}));
  BOOST_TEST((told->unpinned == std::vector{id}));
  BOOST_TEST((told->discarded == std::vector{result_image}));
  BOOST_TEST(gone());
}

BOOST_AUTO_TEST_CASE(stopping_ends_running_work_as_failed) {
  run_until_executing();
  self->send_exit(op, caf::exit_reason::user_shutdown);
  drain();
  BOOST_TEST((state() == status::FAILED));
  BOOST_TEST(told->aborts.size() == 1u);
  say(make_frame<proto::WorkGone>());
  BOOST_TEST(gone());
}

BOOST_AUTO_TEST_CASE(stopping_leaves_waiting_work_pending_for_the_next_start) {
  self->send_exit(op, caf::exit_reason::user_shutdown);
  drain();
  say(make_frame<proto::WorkGone>());
  BOOST_TEST(gone());
  BOOST_TEST((state() == status::PENDING));
}

BOOST_AUTO_TEST_CASE(an_error_of_the_work_is_the_error_of_the_operation) {
  say(make_frame<proto::OperationStarted>());
  say(make_frame<proto::OperationOutcome>([](auto r) { r.setError("the disk is full"); }));
  auto record = stored(id);
  BOOST_TEST((record.view()->getStatus() == status::FAILED));
  BOOST_TEST(record.view()->getError().cStr() == "the disk is full");
  BOOST_TEST(!has_image());
}

// -- followers of the event log -------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_watcher_is_told_when_there_is_more_and_it_can_be_read) {
  run_until_executing();
  auto told_later = watch(2);
  BOOST_TEST(!told_later->has_value());
  say(test::guest_output("tick"));
  BOOST_TEST(!told_later->has_value()); // not before it is durable
  advance(operation_state::prompt_flush_delay);
  BOOST_REQUIRE(told_later->has_value());
  BOOST_TEST((*told_later)->view()->getLive());
  BOOST_TEST((*told_later)->view()->getEventCount() == 3u);
  BOOST_TEST(events(id).view()->getEvents().size() == 3u);
}

BOOST_AUTO_TEST_CASE(a_watcher_that_lags_behind_is_told_at_once) {
  run_until_executing();
  auto told_now = watch(1);
  BOOST_REQUIRE(told_now->has_value());
  BOOST_TEST((*told_now)->view()->getEventCount() == 2u);
}

BOOST_AUTO_TEST_CASE(output_that_waits_is_hurried_for_a_watcher_that_comes_later) {
  run_until_executing();
  say(test::guest_output("tick"));
  auto told_later = watch(2);
  advance(operation_state::prompt_flush_delay);
  BOOST_TEST(told_later->has_value());
}

BOOST_AUTO_TEST_CASE(without_a_watcher_output_is_gathered_for_longer) {
  run_until_executing();
  auto once = watch(2);
  say(test::guest_output("tick"));
  advance(operation_state::prompt_flush_delay);
  BOOST_REQUIRE(once->has_value());
  say(test::guest_output("tock"));
  advance(operation_state::prompt_flush_delay);
  BOOST_TEST(events(id).view()->getEvents().size() == 3u);
  advance(operation_state::flush_delay);
  BOOST_TEST(events(id).view()->getEvents().size() == 4u);
}

BOOST_AUTO_TEST_CASE(watchers_hear_of_the_end_when_it_is_in_the_catalog) {
  run_until_executing();
  auto behind = watch(2);
  auto ahead = watch(1000);
  say(success());
  BOOST_TEST((state() == status::SUCCESS));
  for (const auto& each : {behind, ahead}) {
    BOOST_REQUIRE(each->has_value());
    BOOST_TEST(!(*each)->view()->getLive());
  }
  auto late = watch(2); // its work has not gone yet
  BOOST_REQUIRE(late->has_value());
  BOOST_TEST(!(*late)->view()->getLive());
}

BOOST_AUTO_TEST_CASE(watchers_of_a_cancelled_one_hear_of_it) {
  auto waiting = watch(0);
  BOOST_TEST(!waiting->has_value());
  BOOST_TEST(static_cast<bool>(cancel()));
  BOOST_REQUIRE(waiting->has_value());
  BOOST_TEST(!(*waiting)->view()->getLive());
}

BOOST_AUTO_TEST_CASE(watchers_of_one_that_is_put_off_until_the_next_start_are_let_go) {
  auto waiting = watch(0);
  self->send_exit(op, caf::exit_reason::user_shutdown);
  drain();
  BOOST_REQUIRE(waiting->has_value());
  BOOST_TEST(!(*waiting)->view()->getLive());
}

BOOST_AUTO_TEST_CASE(who_watches_for_long_is_let_go_without_news) {
  run_until_executing();
  auto first = watch(2);
  advance(event_watchers::wait_max / 2);
  auto second = watch(2);
  advance(event_watchers::wait_max / 2);
  BOOST_REQUIRE(first->has_value());
  BOOST_TEST((*first)->view()->getLive());
  BOOST_TEST((*first)->view()->getEventCount() == 2u);
  BOOST_TEST(!second->has_value());
  advance(event_watchers::wait_max);
  BOOST_TEST(second->has_value());
}

BOOST_AUTO_TEST_CASE(when_too_many_watch_the_one_that_waited_longest_is_let_go) {
  run_until_executing();
  auto first = watch(2);
  auto second = watch(2);
  for (std::size_t i = 2; i < event_watchers::waiting_max; ++i) {
    watch(2);
  }
  BOOST_TEST(!first->has_value());
  auto last = watch(2);
  BOOST_TEST(first->has_value());
  BOOST_TEST(!second->has_value());
  BOOST_TEST(!last->has_value());
}

BOOST_AUTO_TEST_CASE(what_becomes_of_processes_is_in_the_log_with_their_spids) {
  run_until_executing();
  auto report = [&](std::uint32_t spid, auto fill) {
    say(make_frame<proto::ProcessReport>([&](auto r) {
      r.setSpid(spid);
      fill(r);
    }));
  };
  report(2, [](auto r) { r.initSpawn().setPid(77); });
  report(2, [](auto r) { r.initStdin().setTruncated(true); });
  say(test::guest_output("of the main one"));
  say(edited(test::guest_output("two\xff"), [](auto m) { m.getOutput().setSpid(2); }));
  report(2, [](auto r) {
    r.initExit().setExitCode(5);
    r.getExit().getStdout().setTotalBytes(9);
  });
  BOOST_TEST(static_cast<bool>(ask<proto::Done>(op, make_frame<proto::FlushOperation>())));
  auto page = events(id);
  auto log = page.view();
  std::vector<proto::Event::Which> kinds;
  for (auto e : log->getEvents()) {
    BOOST_TEST(e.getId() == kinds.size());
    kinds.push_back(e.which());
    if (e.getSpid() == 2 && e.isExit()) {
      BOOST_TEST(e.getExit().getExitCode() == 5);
      BOOST_TEST(e.getExit().getStdout().getKeptBytes() == 4u);
      BOOST_TEST(e.getExit().getStdout().getTotalBytes() == 9u);
      BOOST_TEST(!e.getExit().getStdout().getPlain());
    }
  }
  using enum proto::Event::Which;
  BOOST_TEST((kinds == std::vector{INIT, SPAWN, SPAWN, STDIN, STDOUT, STDOUT, EXIT, TRUNCATED}));
  BOOST_TEST(log->getEvents()[2].getSpawn().getPid() == 77u);
  BOOST_TEST(log->getEvents()[7].getTruncated().getDroppedBytes() == 5u);
  // The main process's streams are its own.
  auto record = stored(id);
  BOOST_TEST(record.view()->getResult().getStdout().getKeptBytes() == 15u);
  BOOST_TEST(record.view()->getResult().getStdout().getPlain());
  say(success());
  report(3, [](auto r) { r.initSpawn(); });
  BOOST_TEST(events(id).view()->getEvents().size() == kinds.size() + 4u);
}

BOOST_AUTO_TEST_CASE(orders_for_processes_go_to_the_work_while_there_is_some) {
  auto order = [&] {
    return ask<proto::ProcessAnswer>(op, make_frame<proto::ProcessOrder>());
  };
  BOOST_TEST(test::fails_with(order(), ec::too_early)); // PENDING
  run_until_executing();
  auto answered = order();
  BOOST_REQUIRE(answered);
  BOOST_TEST(answered->view()->getSpid() == 7u);
  BOOST_TEST(static_cast<bool>(cancel()));
  BOOST_TEST(test::fails_with(order(), ec::conflict));
}

BOOST_AUTO_TEST_SUITE_END()
