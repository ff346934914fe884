#include "tests/actors/instance_fixture.hpp"

#include "actors/run_frames.hpp"

#include <boost/test/unit_test.hpp>
#include <capnp/any.h>

#include <cerrno>

using namespace coppice;
using namespace std::chrono_literals;

namespace {

struct fixture : test::instance_fixture {
  caf::expected<frame<proto::ProcessAnswer>>
  order(const std::function<void(proto::ProcessOrder::Builder)>& fill) {
    return ask<proto::ProcessAnswer>(work, make_frame<proto::ProcessOrder>([&](auto r) {
                                       id.to(r.initOperation());
                                       fill(r);
                                     }));
  }

  /// Asks for a process; what came of it is in `execs` when the guest has spoken.
  void exec(const std::string& input = {}, bool close = true) {
    auto request = make_frame<proto::ProcessOrder>([&](auto r) {
      auto e = r.initExec();
      e.initProcess().setCommand("cat");
      e.getProcess().setTruncateOutputAtBytes(8);
      e.setStdin({reinterpret_cast<const capnp::byte*>(input.data()), input.size()});
      e.setStdinClose(close);
    });
    auto n = execs.size();
    execs.emplace_back(caf::error{});
    sys.spawn([this, n, request](caf::event_based_actor* asker) {
      asker->request(work, caf::infinite, request)
          .then([this, n](const frame<proto::ProcessAnswer>& a) { execs[n] = a; },
                [this, n](caf::error& e) { execs[n] = std::move(e); });
    });
    drain();
  }
  std::vector<caf::expected<frame<proto::ProcessAnswer>>> execs;

  void exec_started(std::uint32_t spid) {
    guest([&](auto m) {
      auto s = m.initStarted();
      s.setSpid(spid);
      s.setPid(100 + spid);
      s.setCommand("cat");
    });
  }
  void exec_output(std::uint32_t spid, const std::string& text) {
    guest([&](auto m) {
      auto out = m.initOutput();
      out.setSpid(spid);
      out.setData({reinterpret_cast<const capnp::byte*>(text.data()), text.size()});
    });
  }
  void exec_exited(std::uint32_t spid, int code = 0) {
    guest([&](auto m) {
      auto e = m.initExited();
      e.setSpid(spid);
      e.initResult().setExitCode(code);
    });
  }

  void input_taken(std::uint32_t spid, std::uint64_t bytes, bool closed = false) {
    guest([&](auto m) {
      m.initStdinTaken().setSpid(spid);
      m.getStdinTaken().setTotalBytes(bytes);
      m.getStdinTaken().setClosed(closed);
    });
  }

  auto signal(std::uint32_t spid, int number) {
    return order([&](auto r) {
      r.setSpid(spid);
      r.setSignal(number);
    });
  }
  auto write(std::uint32_t spid, const std::string& text, bool close = false) {
    return order([&](auto r) {
      r.setSpid(spid);
      r.initStdin().setData({reinterpret_cast<const capnp::byte*>(text.data()), text.size()});
      r.getStdin().setClose(close);
    });
  }

  /// The input that the VM was given for a process.
  std::string given_to(std::uint32_t spid) const {
    std::string out;
    for (const auto& m : script->orders) {
      auto view = m.view();
      if (view->isStdin() && view->getStdin().getSpid() == spid) {
        auto data = view->getStdin().getData().asChars();
        out.append(data.begin(), data.size());
        out += view->getStdin().getClose() ? "<end>" : "";
      }
    }
    return out;
  }

  std::vector<std::string> reported() const {
    std::vector<std::string> out;
    for (const auto& m : said->processes) {
      auto view = m.view();
      auto spid = std::to_string(view->getSpid());
      if (view->isSpawn()) {
        out.push_back("spawn " + spid);
      } else if (view->isStdin()) {
        auto data = view->getStdin().getData().asChars();
        out.push_back("stdin " + spid + " " + std::string{data.begin(), data.size()}.substr(0, 10) +
                      (view->getStdin().getTruncated() ? "..." : ""));
      } else {
        out.push_back("exit " + spid + " " + std::to_string(view->getExit().getExitCode()));
      }
    }
    return out;
  }
};

using words = std::vector<std::string>;

} // namespace

BOOST_FIXTURE_TEST_SUITE(instance_processes_suite, fixture)

BOOST_AUTO_TEST_CASE(a_process_is_ordered_answered_when_it_runs_and_told_of) {
  start();
  started();
  exec("in");
  BOOST_TEST(!execs[0]);
  BOOST_TEST(!execs[0].error()); // nobody has answered yet
  auto before = script->orders.end()[-2].view();
  BOOST_REQUIRE(before->isExec());
  BOOST_TEST(before->getExec().getSpid() == 2u);
  BOOST_TEST(before->getExec().getProcess().getCommand().cStr() == "cat");
  BOOST_TEST(given_to(2) == "in<end>");
  exec_started(2);
  BOOST_REQUIRE(execs[0]);
  BOOST_TEST(execs[0]->view()->getSpid() == 2u);
  exec_output(2, "12345");
  exec_output(2, "67890");
  output("main");
  exec_exited(2, 4);
  BOOST_TEST(said->output == "main");
  BOOST_TEST(said->output_of[2] == "12345678");
  BOOST_TEST((reported() == words{"spawn 2", "stdin 2 in", "exit 2 4"}));
  auto end = said->processes.back().view();
  BOOST_TEST(end->getExit().getStdout().getKeptBytes() == 8u);
  BOOST_TEST(end->getExit().getStdout().getTotalBytes() == 10u);
  BOOST_TEST(!said->outcome.has_value());
  exited();
  finished();
  BOOST_TEST(error() == "");
}

BOOST_AUTO_TEST_CASE(before_the_command_runs_it_is_too_early_and_after_it_a_conflict) {
  start();
  auto all_fail_with = [&](ec code) {
    BOOST_TEST(test::fails_with(signal(1, 9), code));
    BOOST_TEST(test::fails_with(write(1, "x"), code));
    exec();
    BOOST_TEST(test::fails_with(execs.back(), code));
  };
  all_fail_with(ec::too_early);
  BOOST_TEST(given_to(1) == "<end>");
  started();
  exec();
  exited();
  BOOST_TEST(test::fails_with(execs.back(), ec::conflict)); // it was on its way
  all_fail_with(ec::conflict);
  finished();
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(a_run_that_fails_answers_who_waits) {
  start();
  started();
  exec();
  vm_fails("it broke");
  BOOST_TEST(test::fails_with(execs[0], ec::conflict));
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(a_guest_that_makes_processes_up_talks_of_nobody) {
  start();
  started();
  exec();
  exec_output(2, "before it started");
  exec_exited(2);
  exec_started(3);
  exec_output(3, "of nobody");
  exec_exited(3);
  guest([](auto m) { m.initExecFailed().setSpid(1); });
  guest([](auto m) { m.initExecFailed().setSpid(77); });
  guest([](auto m) { m.initStdinTaken().setSpid(77); });
  BOOST_TEST(said->output_of.empty());
  BOOST_TEST(said->processes.empty());
  exec_started(2);
  exec_started(2);
  BOOST_TEST((reported() == words{"spawn 2"}));
  guest([](auto m) { m.initExecFailed().setSpid(2); }); // it has said that it runs
  exec_output(2, "real");
  BOOST_TEST(said->output_of[2] == "real");
}

BOOST_AUTO_TEST_CASE(a_process_that_the_guest_cannot_start_is_refused_and_gone) {
  start();
  started();
  for (auto [number, code] : {std::pair{EAGAIN, ec::busy}, std::pair{EPERM, ec::vm}}) {
    exec("never read", false);
    auto spid = static_cast<std::uint32_t>(execs.size() + 1);
    guest([&](auto m) {
      m.initExecFailed().setSpid(spid);
      m.getExecFailed().setErrorNumber(number);
      m.getExecFailed().setError("no way");
    });
    BOOST_TEST(test::fails_with(execs.back(), code));
    BOOST_TEST(text_of(execs.back().error()).find("no way") != std::string::npos);
    BOOST_TEST(test::fails_with(signal(spid, 9), ec::conflict));
  }
}

BOOST_AUTO_TEST_CASE(signals_go_to_the_process_that_they_are_for) {
  start();
  started();
  exec();
  exec_started(2);
  BOOST_TEST(static_cast<bool>(signal(2, 15)));
  auto sent = script->orders.back().view();
  BOOST_REQUIRE(sent->isSignal());
  BOOST_TEST(sent->getSignal().getSpid() == 2u);
  BOOST_TEST(sent->getSignal().getNumber() == 15);
  BOOST_TEST(static_cast<bool>(signal(1, 9)));
  BOOST_TEST(test::fails_with(signal(3, 9), ec::not_found));
  exec_exited(2);
  BOOST_TEST(test::fails_with(signal(2, 9), ec::conflict));
}

BOOST_AUTO_TEST_CASE(input_goes_on_until_it_is_closed) {
  start([](auto r) {
    r.setStdin({reinterpret_cast<const capnp::byte*>("first "), 6});
    r.setStdinClose(false);
  });
  started();
  BOOST_TEST(static_cast<bool>(write(1, "second ")));
  BOOST_TEST(static_cast<bool>(write(1, "third", true)));
  BOOST_TEST(given_to(1) == "first second third<end>");
  BOOST_TEST(test::fails_with(write(1, "late"), ec::conflict));
  BOOST_TEST(test::fails_with(write(2, "nobody"), ec::not_found));
  BOOST_TEST((reported() == words{"stdin 1 first ", "stdin 1 second ", "stdin 1 third"}));
}

BOOST_AUTO_TEST_CASE(input_that_nobody_takes_is_bounded_and_flows_again_when_somebody_does) {
  start();
  started();
  exec({}, false);
  exec_started(2);
  const std::string most(limits::stdin_bytes_max, 'x');
  BOOST_TEST(static_cast<bool>(write(2, most)));
  BOOST_TEST(test::fails_with(write(2, "y"), ec::busy));
  auto taken = [&](std::uint64_t bytes, bool closed) {
    input_taken(2, bytes, closed);
  };
  taken(1, false);
  BOOST_TEST(static_cast<bool>(write(2, "y")));
  BOOST_TEST(test::fails_with(write(2, "z"), ec::busy));
  BOOST_TEST(given_to(2).size() == most.size() + 1);
  taken(1, true);
  BOOST_TEST(test::fails_with(write(2, "z"), ec::conflict));
  // The log has the beginning, and says once that it is not all.
  BOOST_TEST((reported() == words{"spawn 2", "stdin 2 xxxxxxxxxx..."}));
  BOOST_TEST(said->processes.back().view()->getStdin().getData().size() ==
             process_input::recorded_bytes_max);
}

BOOST_AUTO_TEST_CASE(a_guest_that_lies_of_what_it_took_cannot_make_input_pile_up) {
  start();
  started();
  exec({}, false);
  exec_started(2);
  exec({}, false);
  exec_started(3);
  script->holds_orders = true;
  const std::string much(limits::stdin_bytes_max, 'x');
  std::size_t given = 0;
  for (; write(2, much); ++given) {
    BOOST_REQUIRE(given < 10u);
    input_taken(2, UINT64_MAX);
  }
  BOOST_TEST(given * much.size() <= stdin_queue::waiting_bytes_max);
  BOOST_TEST(test::fails_with(write(3, much), ec::busy));
  exec(much);
  BOOST_TEST(test::fails_with(execs.back(), ec::busy));
  // What nobody will read makes room.
  input_taken(2, 0, true);
  BOOST_TEST(static_cast<bool>(write(3, much)));
}

BOOST_AUTO_TEST_CASE(a_process_that_does_not_run_takes_no_input) {
  start();
  started();
  const std::string much(limits::stdin_bytes_max, 'x');
  for (std::uint32_t spid : {2u, 3u}) {
    exec(much);
    BOOST_TEST(!execs.back().error());
    input_taken(spid, UINT64_MAX);
  }
  exec(much);
  BOOST_TEST(test::fails_with(execs.back(), ec::busy));
  exec_started(2);
  input_taken(2, UINT64_MAX);
  exec(much);
  BOOST_TEST(!execs.back().error());
}

BOOST_AUTO_TEST_CASE(a_signal_that_the_end_of_the_run_overtook_is_a_conflict) {
  start();
  started();
  exec();
  exec_started(2);
  script->holds_orders = true;
  script->holds_stop = true;
  std::optional<caf::error> refused;
  sys.spawn([&, to = work](caf::event_based_actor* asker) {
    asker
        ->request(to, caf::infinite, make_frame<proto::ProcessOrder>([](auto r) {
                    r.setSpid(2);
                    r.setSignal(9);
                  }))
        .then([](const frame<proto::ProcessAnswer>&) {}, [&](caf::error& e) { refused = e; });
  });
  drain();
  BOOST_TEST(!refused.has_value());
  vm_fails("it broke");
  self->send(vm(), make_frame<proto::VmStopped>());
  drain();
  BOOST_REQUIRE(refused.has_value());
  BOOST_TEST((code_of(*refused) == ec::conflict));
}

BOOST_AUTO_TEST_CASE(only_what_is_known_of_a_process_is_kept_of_what_a_guest_says) {
  start();
  started();
  exec();
  exec_started(2);
  guest([](auto m) {
    auto e = m.initExited();
    e.setSpid(2);
    auto result = capnp::toAny(e.initResult());
    auto usage = result.getPointerSection()[0].initAsAnyStruct(20'000, 0);
    usage.getDataSection()[0] = 7;
  });
  auto report = said->processes.back().view();
  BOOST_REQUIRE(report->isExit());
  BOOST_TEST(report->getExit().getUsage().getUserTimeUs() == 7u);
  BOOST_TEST(report->totalSize().wordCount * sizeof(capnp::word) < 1000u);

  auto message = make_frame<proto::FromGuest>([](auto m) {
    auto process = capnp::toAny(m.initStarted());
    auto args = process.getPointerSection()[1].initAsListOfAnyStruct(10'000, 1, 2);
    args[0].getPointerSection()[0].template setAs<capnp::Text>("-l");
  });
  auto view = message.view();
  BOOST_REQUIRE(view->getStarted().getArgs().size() == 2u);
  auto executing = executing_report({}, {}, view->getStarted());
  auto args = executing.view()->getSpawn().getArgs();
  BOOST_REQUIRE(args.size() == 2u);
  BOOST_TEST(args[0].cStr() == "-l");
  BOOST_TEST(executing.bytes().size() < 1000u);
}

BOOST_AUTO_TEST_CASE(the_sixty_fifth_process_beside_the_command_is_refused) {
  start();
  started();
  for (std::uint32_t spid = 2; spid < 66; ++spid) {
    exec();
    exec_started(spid);
    BOOST_REQUIRE(execs.back());
  }
  exec();
  BOOST_TEST(test::fails_with(execs.back(), ec::busy));
  exec_exited(30);
  exec();
  exec_started(66);
  BOOST_TEST(static_cast<bool>(execs.back()));
}

BOOST_AUTO_TEST_CASE(long_command_lines_leave_only_their_beginning_in_the_log) {
  start();
  started();
  exec();
  guest([&](auto m) {
    auto s = m.initStarted();
    s.setSpid(2);
    s.setCommand("sh");
    auto args = s.initArgs(3);
    for (unsigned i = 0; i < 3; ++i) {
      args.set(i, std::string(15'000, 'a'));
    }
  });
  auto spawn = said->processes.at(0).view();
  BOOST_TEST(spawn->getSpawn().getArgs().size() == 2u);
  BOOST_TEST(spawn->totalSize().wordCount * 8 < 18'000u);
}

BOOST_AUTO_TEST_SUITE_END()
