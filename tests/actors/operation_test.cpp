#include "actors/operation.hpp"
#include "actors/requests.hpp"
#include "tests/actors/node_fixture.hpp"
#include "tests/support/metric_text.hpp"

#include <boost/test/unit_test.hpp>

#include <functional>
#include <memory>
#include <optional>
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
      [](const frame<proto::ProcessOrder>&) {
        return make_frame<proto::ProcessAnswer>([](auto r) { r.setSpid(7); });
      },
  };
}

/// What becomes of what is written to the catalog.
struct writer_script {
  bool fails_records = false;
  bool fails_events = false;
  bool fails_ends = false;
  bool holds_events = false;
  int tries = 0; ///< of all that failed
  std::function<void()> held;

  caf::error no_space() {
    ++tries;
    return make_error(ec::storage, "no space left");
  }
};

/// The real writer behind a door.
catalog_writer_actor::behavior_type writer_door(catalog_writer_actor::pointer self,
                                                std::shared_ptr<writer_script> s,
                                                const catalog_writer_actor& to) {
  using done = caf::result<frame<proto::Done>>;
  return {
      [=](const frame<proto::PutOperation>& m) -> done {
        return s->fails_records ? done{s->no_space()} : done{self->delegate(to, m)};
      },
      [=](const frame<proto::AppendEvents>& m) -> done {
        if (s->holds_events) {
          auto promise = self->make_response_promise<frame<proto::Done>>();
          s->held = [=]() mutable {
            promise.delegate(to, m);
          };
          return promise;
        }
        return s->fails_events ? done{s->no_space()} : done{self->delegate(to, m)};
      },
      [=](const frame<proto::FinishOperation>& m) -> done {
        return s->fails_ends ? done{s->no_space()} : done{self->delegate(to, m)};
      },
      [=](const frame<proto::SetTag>& m) { return self->delegate(to, m); },
      [=](const frame<proto::RemoveTag>& m) { return self->delegate(to, m); },
      [=](const frame<proto::DeleteImage>& m) { return self->delegate(to, m); },
      [=](const frame<proto::PutFile>& m) { return self->delegate(to, m); },
      [=](const frame<proto::TrimEvents>& m) { return self->delegate(to, m); },
      [=](const frame<proto::Tick>&) {
        std::exchange(s->held, {})(); // here, as a promise is its actor's
      },
  };
}

struct fixture : test::node_fixture {
  std::shared_ptr<writer_script> writes = std::make_shared<writer_script>();
  catalog_writer_actor door = sys.spawn(writer_door, writes, writer);
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
    parts->catalog = door;
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
    self->send_exit(door, caf::exit_reason::kill);
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

  /// Asks to be woken; what it is told comes into the slot.
  std::shared_ptr<std::optional<frame<proto::OperationProgress>>> watch(std::uint64_t have_events) {
    auto slot = std::make_shared<std::optional<frame<proto::OperationProgress>>>();
    auto request = make_frame<proto::WatchOperation>([&](auto r) {
      id.to(r.initId());
      r.setHaveEvents(have_events);
    });
    sys.spawn([slot, request, to = op](caf::event_based_actor* asker) {
      asker->request(to, caf::infinite, request)
          .then([slot](const frame<proto::OperationProgress>& answered) { *slot = answered; });
    });
    drain();
    return slot;
  }

  /// Asks for what there is to be readable; the answer comes into the slot.
  std::shared_ptr<std::optional<bool>> flush() {
    auto slot = std::make_shared<std::optional<bool>>();
    sys.spawn([slot, to = op](caf::event_based_actor* asker) {
      asker->request(to, caf::infinite, make_frame<proto::FlushOperation>())
          .then([slot](const frame<proto::Done>&) { *slot = true; },
                [slot](const caf::error&) { *slot = false; });
    });
    drain();
    return slot;
  }

  void release() {
    self->send(door, make_frame<proto::Tick>());
    drain();
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

BOOST_AUTO_TEST_CASE(a_flush_waits_for_what_there_was_and_for_no_more) {
  run_until_executing();
  writes->holds_events = true;
  const std::string much(operation_state::flush_bytes, 'x');
  say(test::guest_output(much)); // on its way
  say(test::guest_output("before"));
  auto asked = flush();
  say(test::guest_output(much));
  release(); // the next batch has what was asked for, and more behind it
  BOOST_TEST(!asked->has_value());
  say(test::guest_output(much));
  release();
  BOOST_REQUIRE(asked->has_value());
  BOOST_TEST(asked->value());
  BOOST_TEST(static_cast<bool>(writes->held)); // output goes on
  auto record = stored(id);
  BOOST_TEST(record.view()->getResult().getStdout().getKeptBytes() == much.size() + 6);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_written_is_tried_once_a_while_whatever_comes) {
  run_until_executing();
  writes->fails_events = true;
  const std::string much(operation_state::flush_bytes, 'x');
  say(test::guest_output(much));
  BOOST_TEST(writes->tries == 1);
  for (int i = 0; i < 5; ++i) {
    say(test::guest_output(much));
    advance(operation_state::flush_delay);
  }
  BOOST_TEST(writes->tries == 1);
  advance(operation_state::commit_retry_delay);
  BOOST_TEST(writes->tries == 2);
  writes->fails_events = false;
  advance(operation_state::commit_retry_delay);
  auto answered = flush();
  BOOST_REQUIRE(answered->has_value());
  BOOST_TEST(answered->value());
  BOOST_TEST(events(id).view()->getEvents().size() > 2u);
}

BOOST_AUTO_TEST_CASE(who_waits_for_events_hears_that_the_end_was_given_up) {
  run_until_executing();
  writes->fails_ends = true;
  say(success());
  auto asked = flush();
  for (int i = 1; i < operation_state::commit_tries_max; ++i) {
    BOOST_REQUIRE(!asked->has_value());
    BOOST_REQUIRE(writes->tries == i);
    advance(operation_state::commit_retry_delay);
  }
  BOOST_TEST(writes->tries == operation_state::commit_tries_max);
  BOOST_REQUIRE(asked->has_value());
  BOOST_TEST(!asked->value());
}

BOOST_AUTO_TEST_CASE(no_event_is_written_before_the_record_says_that_the_work_runs) {
  writes->fails_records = true;
  run_until_executing();
  say(test::guest_output("hello"));
  advance(operation_state::flush_delay);
  BOOST_TEST((state() == status::PENDING));
  BOOST_TEST(events(id).view()->getEvents().size() == 0u);
  writes->fails_records = false;
  advance(operation_state::commit_retry_delay);
  BOOST_TEST((state() == status::EXECUTING));
  BOOST_TEST(events(id).view()->getEvents().size() == 3u);
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

BOOST_AUTO_TEST_CASE(a_full_log_says_so_once) {
  run_until_executing();
  const std::string piece(64u << 10, 'z');
  for (std::size_t bytes = 0; bytes <= event_log::log_bytes_max + 10 * piece.size();
       bytes += piece.size()) {
    say(test::guest_output(piece));
  }
  say(test::guest_output("x")); // it would fit, but then there would be a hole
  say(success());
  std::uint64_t next = 0;
  int caps = 0;
  int outputs_behind = 0;
  for (bool is_end = false; !is_end;) {
    auto page = ask<proto::EventPage>(reader, make_frame<proto::ListEvents>([&](auto r) {
                                        id.to(r.initOperation());
                                        r.setFirstId(next);
                                        r.setMaxBytes(4u << 20);
                                      }));
    BOOST_REQUIRE(page);
    auto log = page->view();
    is_end = log->getEvents().size() == 0;
    for (auto e : log->getEvents()) {
      next = e.getId() + 1;
      outputs_behind += caps > 0 && e.isStdout() ? 1 : 0;
      if (e.isSizeCap()) {
        ++caps;
        BOOST_TEST(e.getSpid() == 0u);
        BOOST_TEST(e.getSizeCap().getLimitBytes() == event_log::log_bytes_max);
        BOOST_TEST(e.getSizeCap().getLoggedBytes() <= event_log::log_bytes_max);
      }
    }
  }
  BOOST_TEST(caps == 1);
  BOOST_TEST(outputs_behind == 0);
}

BOOST_AUTO_TEST_CASE(input_that_has_no_room_in_the_log_leaves_a_mark) {
  run_until_executing();
  const std::string piece(1u << 20, 'z');
  for (std::size_t bytes = 0; bytes <= event_log::log_bytes_max + 2 * piece.size();
       bytes += piece.size()) {
    say(make_frame<proto::ProcessReport>([&](auto r) {
      r.setSpid(1);
      r.initStdin().setData({reinterpret_cast<const capnp::byte*>(piece.data()), piece.size()});
    }));
  }
  say(test::guest_output("x")); // it would fit, but then there would be a hole
  say(success());
  auto count = stored(id).view()->getEventCount();
  auto page = ask<proto::EventPage>(reader, make_frame<proto::ListEvents>([&](auto r) {
                                      id.to(r.initOperation());
                                      r.setFirstId(count - 5);
                                      r.setMaxBytes(4u << 20);
                                    }));
  BOOST_REQUIRE(page);
  std::vector<proto::Event::Which> kinds;
  for (auto e : page->view()->getEvents()) {
    kinds.push_back(e.which());
  }
  using enum proto::Event::Which;
  BOOST_TEST((kinds == std::vector{SIZE_CAP, EXIT, TRUNCATED, SHUTDOWN, COMPLETION}));
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
