#include "actors/operation.hpp"
#include "actors/requests.hpp"
#include "tests/actors/node_fixture.hpp"
#include "tests/support/metric_text.hpp"

#include <boost/test/unit_test.hpp>

#include <utility>

namespace {

using namespace coppice;
using namespace std::chrono_literals;
using status = proto::OperationStatus;

work_actor::behavior_type work_double(work_actor::pointer, std::shared_ptr<test::heard> h) {
  return {
      [h](const frame<proto::AbortWork>& m) { h->aborts.push_back(m.view()->getReason().cStr()); },
      [](const frame<proto::FromGuest>&) { return make_frame<proto::Done>(); },
      [](const frame<proto::VmFailed>&) {
        // nop
      },
      [](const frame<proto::ChildExited>&) {
        // nop
      },
      [](const frame<proto::Tick>&) {
        // nop
      },
  };
}

struct fixture : test::node_fixture {
  uuid id = uuid::random();
  uuid image = uuid::random();
  uuid result_image;
  work_actor work;
  std::shared_ptr<node_metrics> metrics = std::make_shared<node_metrics>();
  operation_actor op = start();

  operation_actor start() {
    auto record = instance_record(id, image);
    put(record);
    auto parts = std::make_shared<operation_parts>();
    parts->catalog = writer;
    parts->store = store;
    parts->scheduler = slots;
    parts->images = images;
    parts->metrics = metrics;
    parts->spawn_work = [this](operation_actor::pointer parent,
                               const frame<proto::OperationRecord>&, const uuid& result) {
      result_image = result;
      work = parent->spawn<caf::monitored>(work_double, told);
      return work;
    };
    auto out = sys.spawn(operation, parts, record);
    drain();
    return out;
  }

  ~fixture() {
    self->send_exit(work, caf::exit_reason::kill);
    drain();
    self->send_exit(op, caf::exit_reason::kill);
    drain();
  }

  template <class T>
  void say(const frame<T>& message) {
    self->send(op, message);
    drain();
  }

  void run_until_executing() {
    say(make_frame<proto::OperationStarted>());
    say(make_frame<proto::OperationExecuting>([](auto r) { r.initSpawn().setPid(42); }));
  }

  frame<proto::OperationOutcome> success() {
    return make_frame<proto::OperationOutcome>([&](auto r) {
      r.setSuccess();
      r.setHasResult(true);
      r.initResult().setExitCode(0);
      r.getResult().initStdout().setTotalBytes(99);
      auto made = r.initImage();
      result_image.to(made.initId());
      made.setProject("default");
      made.setSizeBytes(4096);
      id.to(made.initOperation());
      r.setHasImage(true);
      r.initIndex().initExtents(1); // the catalog does not look inside
    });
  }

  status state() {
    return stored(id).view()->getStatus();
  }

  bool has_image() {
    auto got = ask<proto::ImageRow>(reader, make_frame<proto::GetImage>([&](auto r) {
                                      r.setProject("default");
                                      result_image.to(r.initId());
                                    }));
    return static_cast<bool>(got);
  }

  auto cancel() {
    return ask<proto::OperationRecord>(op, make_frame<proto::CancelOperation>([&](auto r) {
                                         r.setProject("default");
                                         id.to(r.initId());
                                       }));
  }

  bool gone() {
    auto answer = ask<proto::Done>(op, make_frame<proto::FlushOperation>());
    return !answer;
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(operation_suite, fixture)

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

BOOST_AUTO_TEST_CASE(output_is_written_when_it_has_waited_long_enough) {
  run_until_executing();
  say(test::guest_output("tick"));
  auto before = events(id);
  BOOST_TEST(before.view()->getEvents().size() == 2u);
  advance(operation_state::flush_delay);
  auto after = events(id);
  BOOST_REQUIRE(after.view()->getEvents().size() == 3u);
}

BOOST_AUTO_TEST_CASE(flush_makes_everything_seen_readable) {
  run_until_executing();
  say(test::guest_output("\x01 not plain"));
  BOOST_TEST(static_cast<bool>(ask<proto::Done>(op, make_frame<proto::FlushOperation>())));
  auto page = events(id);
  BOOST_TEST(page.view()->getEvents().size() == 3u);
  auto record = stored(id);
  BOOST_TEST(record.view()->getResult().getStdout().getKeptBytes() == 11u);
  BOOST_TEST(!record.view()->getResult().getStdout().getPlain());
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

BOOST_AUTO_TEST_SUITE_END()
