#include "actors/instance.hpp"
#include "actors/requests.hpp"
#include "tests/actors/node_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <optional>
#include <utility>

namespace {

using namespace coppice;
using namespace std::chrono_literals;

/// A VM whose every answer the test decides.
struct vm_script {
  bool boots = true;
  int dead = 0; ///< so many of the next ones turn out to be no good
  std::uint64_t next_run = 1;
  proto::VmStart start = proto::VmStart::COLD;
  bool holds_stop = false;
  std::vector<bool> stops; ///< graceful?
  std::vector<frame<proto::ToGuest>> orders;
  std::vector<caf::typed_response_promise<frame<proto::VmStopped>>> waiting_stops;
};

vm_actor::behavior_type vm_double(vm_actor::pointer self, std::shared_ptr<vm_script> script) {
  return {
      [script](const frame<proto::StartVm>&) -> caf::result<frame<proto::VmReady>> {
        if (!script->boots) {
          return make_error(ec::vm, "kernel panic");
        }
        if (script->dead > 0) {
          --script->dead;
          return make_error(ec::gone, "died while it waited");
        }
        return make_frame<proto::VmReady>([&](auto r) {
          r.setKernel("6.1");
          r.setNextRun(script->next_run);
          r.setStart(script->start);
        });
      },
      [](const frame<proto::PauseVm>&) { return make_frame<proto::Done>(); },
      [](const frame<proto::AdoptVm>&, const work_actor&) { return make_frame<proto::Done>(); },
      [script](const frame<proto::ToGuest>& m) {
        script->orders.push_back(m);
        return make_frame<proto::Done>();
      },
      [self, script](const frame<proto::StopVm>& m) -> caf::result<frame<proto::VmStopped>> {
        script->stops.push_back(m.view()->getGraceful());
        if (script->holds_stop) {
          script->waiting_stops.push_back(self->make_response_promise<frame<proto::VmStopped>>());
          return script->waiting_stops.back();
        }
        return make_frame<proto::VmStopped>();
      },
      [](const frame<proto::FromGuest>&) {
        // nop
      },
      [](const frame<proto::VmFailed>&) {
        // nop
      },
      [script](const frame<proto::VmStopped>& how) {
        for (auto& s : std::exchange(script->waiting_stops, {})) {
          s.deliver(how);
        }
      },
      [](const frame<proto::GuestWritable>&) {
        // nop
      },
      [](const frame<proto::VmOrderDone>&) {
        // nop
      },
  };
}

/// A pool whose VMs are doubles; each with a slot of its own.
struct pool_script {
  std::shared_ptr<vm_script> vms;
  bool is_held = false;
  std::uint64_t last_slot = 0;
  std::vector<vm_actor> made;
  std::vector<caf::typed_response_promise<frame<proto::VmTaken>, vm_actor>> waiting;

  void give() {
    for (auto& w : std::exchange(waiting, {})) {
      w.deliver(make_frame<proto::VmTaken>([&](auto r) { r.setSlot(++last_slot); }), made.back());
    }
  }
};

vm_pool_actor::behavior_type pool_double(vm_pool_actor::pointer self,
                                         std::shared_ptr<pool_script> script) {
  return {
      [self, script](const frame<proto::TakeVm>&) {
        script->made.push_back(self->spawn(vm_double, script->vms));
        auto promise = self->make_response_promise<frame<proto::VmTaken>, vm_actor>();
        script->waiting.push_back(promise);
        if (!script->is_held) {
          script->give();
        }
        return promise;
      },
      [](const frame<proto::AbortWork>&) {
        // nop
      },
      [](const frame<proto::FromGuest>&) { return make_frame<proto::Done>(); },
      [](const frame<proto::VmFailed>&) {
        // nop
      },
      [](const frame<proto::ChildExited>&) {
        // nop
      },
      [script](const frame<proto::Tick>&) { script->give(); },
  };
}

struct reports {
  int started = 0;
  int executing = 0;
  std::string output;
  std::optional<frame<proto::OperationOutcome>> outcome;
  int gone = 0;
};

operation_actor::behavior_type operation_double(operation_actor::pointer,
                                                std::shared_ptr<reports> r) {
  return {
      [](const frame<proto::CancelOperation>&) { return make_frame<proto::OperationRecord>(); },
      [](const frame<proto::FlushOperation>&) { return make_frame<proto::Done>(); },
      [r](const frame<proto::OperationStarted>&) { ++r->started; },
      [r](const frame<proto::OperationExecuting>&) { ++r->executing; },
      [r](const frame<proto::FromGuest>& m) {
        auto view = m.view();
        auto data = view->getOutput().getData();
        r->output.append(reinterpret_cast<const char*>(data.begin()), data.size());
      },
      [r](const frame<proto::OperationOutcome>& m) {
        BOOST_TEST(!r->outcome.has_value(), "the outcome is told twice");
        r->outcome = m;
      },
      [r](const frame<proto::WorkGone>&) { ++r->gone; },
      [](const frame<proto::Tick>&) {
        // nop
      },
  };
}

struct fixture : test::node_fixture {
  uuid id = uuid::random();
  uuid image = uuid::random();
  uuid result_image = uuid::random();
  std::shared_ptr<vm_script> script = std::make_shared<vm_script>();
  std::shared_ptr<reports> said = std::make_shared<reports>();
  operation_actor owner = sys.spawn(operation_double, said);
  std::shared_ptr<pool_script> pool_said = std::make_shared<pool_script>();
  vm_pool_actor pool = sys.spawn(pool_double, pool_said);
  work_actor work;

  ~fixture() {
    for (const auto& a : {owner.address(), pool.address(), work.address()}) {
      self->send_exit(a, caf::exit_reason::kill);
    }
    for (const auto& each : std::exchange(pool_said->made, {})) {
      self->send_exit(each, caf::exit_reason::kill);
    }
    drain();
  }

  void start(const std::function<void(proto::RunRequest::Builder)>& change = {}) {
    auto parts = std::make_shared<instance_parts>();
    parts->store = store;
    parts->images = images;
    parts->scheduler = slots;
    parts->stop_grace = 20s;
    pool_said->vms = script;
    parts->pool = pool;
    auto record = edited(instance_record(id, image), [&](auto r) {
      r.getRequest().getInstance().setStdinClose(true);
      if (change) {
        change(r.getRequest().getInstance());
      }
    });
    work = sys.spawn(instance, parts, owner, record, result_image);
    drain();
  }

  template <class Fill>
  void guest(Fill&& fill) {
    auto answered = ask<proto::Done>(work, make_frame<proto::FromGuest>([&](auto m) {
                                       m.setRun(script->next_run);
                                       fill(m);
                                     }));
    static_cast<void>(answered);
  }

  void started() {
    guest([](auto m) { m.initStarted().setSpid(1); });
  }
  void output(const std::string& text) {
    guest([&](auto m) {
      auto out = m.initOutput();
      out.setSpid(1);
      out.setData({reinterpret_cast<const capnp::byte*>(text.data()), text.size()});
    });
  }
  void exited(int code = 0) {
    guest([&](auto m) {
      auto e = m.initExited();
      e.setSpid(1);
      e.initResult().setExitCode(code);
    });
  }
  void finished(bool clean = true) {
    guest([&](auto m) {
      m.initFinished().setClean(clean);
      m.getFinished().setError("busy");
    });
  }

  std::string error() const {
    BOOST_REQUIRE(said->outcome.has_value());
    auto view = said->outcome->view();
    return view->isError() ? view->getError().cStr() : "";
  }

  const vm_actor& vm() const {
    return pool_said->made.back();
  }
  void vm_fails(const std::string& text) {
    caf::send_as(vm(), work, make_frame<proto::VmFailed>([&](auto r) { r.setText(text); }));
    drain();
  }

  /// Whatever happened: the end was told once and everything was given back once.
  void check_all_given_back() {
    std::vector<std::uint64_t> slots_given;
    for (std::uint64_t slot = 1; slot <= pool_said->last_slot; ++slot) {
      slots_given.push_back(slot);
    }
    BOOST_TEST((told->closed_slots == slots_given));
    BOOST_TEST(said->gone == 1);
    BOOST_TEST((told->released == std::vector{id}));
    BOOST_TEST((told->unpinned == std::vector{id}));
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(instance_suite, fixture)

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

BOOST_AUTO_TEST_CASE(output_beyond_the_limit_is_counted_and_not_passed_on) {
  start(); // keeps 8 bytes
  started();
  output("12345");
  output("67890");
  output("more");
  exited();
  finished();
  BOOST_TEST(said->output == "12345678");
  auto view = said->outcome->view();
  BOOST_TEST(view->getResult().getStdout().getKeptBytes() == 8u);
  BOOST_TEST(view->getResult().getStdout().getTotalBytes() == 14u);
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

BOOST_AUTO_TEST_CASE(a_disk_that_is_not_clean_is_not_kept) {
  start();
  started();
  exited();
  finished(false);
  BOOST_TEST(error().find("unmount") != std::string::npos);
  BOOST_TEST((told->discarded == std::vector{result_image}));
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(a_vm_that_does_not_boot_fails_the_run) {
  script->boots = false;
  start();
  BOOST_TEST(error().find("kernel panic") != std::string::npos);
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(a_guest_that_never_starts_the_command_is_given_up) {
  start();
  advance(59s);
  BOOST_TEST(!said->outcome.has_value());
  advance(2s);
  BOOST_TEST(error().find("in time") != std::string::npos);
  BOOST_TEST((script->stops == std::vector<bool>{false}));
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(a_guest_that_ignores_the_deadline_is_killed) {
  start(); // timeout 10 s, grace 20 s
  started();
  advance(29s);
  BOOST_TEST(!said->outcome.has_value());
  advance(2s);
  BOOST_TEST(error().find("deadline") != std::string::npos);
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

BOOST_AUTO_TEST_CASE(a_run_does_not_use_up_vms_for_ever) {
  script->dead = 100;
  start();
  BOOST_TEST(error().find("died while it waited") != std::string::npos);
  BOOST_TEST(pool_said->made.size() == instance_state::takes_max);
  BOOST_TEST(said->gone == 1);
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
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(a_dead_supervisor_fails_the_run) {
  start();
  started();
  self->send_exit(vm(), caf::exit_reason::kill);
  drain();
  BOOST_TEST(error().find("supervisor") != std::string::npos);
  check_all_given_back();
}

BOOST_AUTO_TEST_CASE(messages_out_of_place_change_nothing) {
  start();
  finished();
  exited();
  output("early");
  BOOST_TEST(!said->outcome.has_value());
  started();
  started();
  finished();
  BOOST_TEST(said->executing == 1);
  BOOST_TEST(!said->outcome.has_value());
  BOOST_TEST(said->output.empty());
}

BOOST_AUTO_TEST_CASE(preserved_environment_stays_with_the_image) {
  start([](auto r) {
    r.setPreserveEnv(true);
    auto env = r.getProcess().initEnv(2);
    env[0].setName("CHANGED");
    env[0].setValue("new");
    env[1].setName("ADDED");
    env[1].setValue("2");
  });
  started();
  exited();
  finished();
  auto view = said->outcome->view();
  std::string env;
  for (auto e : view->getImage().getConfig().getEnv()) {
    env += std::string{e.getName().cStr()} + "=" + e.getValue().cStr() + " ";
  }
  BOOST_TEST(env == "KEPT=1 CHANGED=new ADDED=2 ");
}

BOOST_AUTO_TEST_CASE(files_and_stdin_are_sent_whole_in_pieces_and_in_order) {
  start([](auto r) {
    auto files = r.initFiles(2);
    files[0].setPath("/a");
    files[0].setSizeBytes(limits::transfer_chunk_bytes);
    files[1].setPath("/b");
    files[1].setSizeBytes(2 * limits::transfer_chunk_bytes);
    r.initStdin(limits::transfer_chunk_bytes + 1);
  });
  std::vector<std::size_t> sizes(2);
  std::size_t stdin_bytes = 0;
  bool closed = false;
  BOOST_REQUIRE(!script->orders.empty());
  BOOST_TEST(script->orders[0].view()->isStart());
  for (const auto& m : script->orders) {
    auto view = m.view();
    if (view->isFileChunk()) {
      sizes.at(view->getFileChunk().getIndex()) += view->getFileChunk().getData().size();
    } else if (view->isStdin()) {
      BOOST_TEST(!closed);
      stdin_bytes += view->getStdin().getData().size();
      closed = view->getStdin().getClose();
    }
  }
  BOOST_TEST(sizes[0] == limits::transfer_chunk_bytes);
  BOOST_TEST(sizes[1] == 2 * limits::transfer_chunk_bytes);
  BOOST_TEST(stdin_bytes == limits::transfer_chunk_bytes + 1);
  BOOST_TEST(closed);
}

BOOST_AUTO_TEST_SUITE_END()
