#pragma once

#include "actors/instance.hpp"
#include "actors/requests.hpp"
#include "tests/actors/node_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <map>
#include <optional>
#include <utility>

namespace coppice::test {

using namespace std::chrono_literals;

/// A VM whose every answer the test decides.
struct vm_script {
  bool boots = true;
  int dead = 0; ///< so many of the next ones turn out to be no good
  std::uint64_t next_run = 1;
  proto::VmStart start = proto::VmStart::COLD;
  int deaf = 0;              ///< so many orders of the next ones do not get through
  bool holds_orders = false; ///< the channel is full
  std::vector<caf::typed_response_promise<frame<proto::Done>>> waiting_orders;
  bool holds_stop = false;
  std::vector<bool> stops; ///< graceful?
  std::vector<frame<proto::ToGuest>> orders;
  std::vector<caf::typed_response_promise<frame<proto::VmStopped>>> waiting_stops;
};

inline vm_actor::behavior_type vm_double(vm_actor::pointer self,
                                         std::shared_ptr<vm_script> script) {
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
      [self, script](const frame<proto::ToGuest>& m) -> caf::result<frame<proto::Done>> {
        if (script->deaf > 0) {
          --script->deaf;
          return make_error(ec::vm, "the guest cannot be reached");
        }
        script->orders.push_back(m);
        if (script->holds_orders) {
          script->waiting_orders.push_back(self->make_response_promise<frame<proto::Done>>());
          return script->waiting_orders.back();
        }
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
        for (auto& order : std::exchange(script->waiting_orders, {})) {
          order.deliver(make_error(ec::vm, "the VM is gone"));
        }
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
  int dying = 0; ///< so many of the next ones die when they are given
  std::uint64_t last_slot = 0;
  std::vector<vm_actor> made;
  std::vector<caf::typed_response_promise<frame<proto::VmTaken>, vm_actor>> waiting;

  void give() {
    for (auto& w : std::exchange(waiting, {})) {
      w.deliver(make_frame<proto::VmTaken>([&](auto r) { r.setSlot(++last_slot); }), made.back());
    }
  }
};

inline vm_pool_actor::behavior_type pool_double(vm_pool_actor::pointer self,
                                                std::shared_ptr<pool_script> script) {
  return {
      [self, script](const frame<proto::TakeVm>&) {
        const auto asker = caf::actor_cast<work_actor>(self->current_sender());
        script->made.push_back(self->spawn(vm_double, script->vms));
        auto promise = self->make_response_promise<frame<proto::VmTaken>, vm_actor>();
        script->waiting.push_back(promise);
        if (!script->is_held) {
          script->give();
        }
        if (script->dying > 0) {
          --script->dying;
          ++script->vms->dead;
          caf::send_as(script->made.back(), asker, make_frame<proto::VmFailed>());
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
      [](const frame<proto::ProcessOrder>&) -> caf::result<frame<proto::ProcessAnswer>> {
        return make_error(ec::conflict, "a double");
      },
  };
}

struct reports {
  std::vector<frame<proto::ProcessReport>> processes;
  std::map<std::uint32_t, std::string> output_of; ///< those beside the main one
  int started = 0;
  int executing = 0;
  std::string output;
  std::optional<frame<proto::OperationOutcome>> outcome;
  int gone = 0;
};

inline operation_actor::behavior_type operation_double(operation_actor::pointer,
                                                       std::shared_ptr<reports> r) {
  return {
      [](const frame<proto::CancelOperation>&) { return make_frame<proto::OperationRecord>(); },
      [](const frame<proto::FlushOperation>&) { return make_frame<proto::Done>(); },
      [](const frame<proto::WatchOperation>&) { return make_frame<proto::OperationProgress>(); },
      [r](const frame<proto::OperationStarted>&) { ++r->started; },
      [r](const frame<proto::OperationExecuting>&) { ++r->executing; },
      [r](const frame<proto::FromGuest>& m) {
        auto view = m.view();
        auto data = view->getOutput().getData();
        auto spid = view->getOutput().getSpid();
        (spid == 1 ? r->output : r->output_of[spid])
            .append(reinterpret_cast<const char*>(data.begin()), data.size());
      },
      [r](const frame<proto::OperationOutcome>& m) {
        BOOST_TEST(!r->outcome.has_value(), "the outcome is told twice");
        r->outcome = m;
      },
      [r](const frame<proto::WorkGone>&) { ++r->gone; },
      [](const frame<proto::Tick>&) {
        // nop
      },
      [](const frame<proto::ProcessOrder>&) -> caf::result<frame<proto::ProcessAnswer>> {
        return make_error(ec::conflict, "a double");
      },
      [r](const frame<proto::ProcessReport>& m) { r->processes.push_back(m); },
  };
}

/// A run between doubles of all it speaks with; the test says what they answer.
struct instance_fixture : node_fixture {
  uuid id = uuid::random();
  uuid image = uuid::random();
  uuid result_image = uuid::random();
  std::shared_ptr<vm_script> script = std::make_shared<vm_script>();
  std::shared_ptr<reports> said = std::make_shared<reports>();
  operation_actor owner = sys.spawn(operation_double, said);
  std::shared_ptr<pool_script> pool_said = std::make_shared<pool_script>();
  vm_pool_actor pool = sys.spawn(pool_double, pool_said);
  work_actor work;

  ~instance_fixture() {
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

  bool is_task_fault() const {
    return said->outcome->view()->getTaskFault();
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

} // namespace coppice::test
