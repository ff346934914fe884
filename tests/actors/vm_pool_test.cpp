#include "actors/node_capacity.hpp"
#include "actors/requests.hpp"
#include "actors/vm_pool.hpp"
#include "tests/actors/node_fixture.hpp"
#include "tests/support/metric_text.hpp"

#include <boost/test/unit_test.hpp>

#include <optional>
#include <utility>

namespace {

using namespace coppice;
using namespace std::chrono_literals;

constexpr std::uint64_t plenty = 8ull << 30;
const pool_plan::class_key usual{1, 256};
const pool_plan::class_key large{2, 1024};

/// What happens to the VMs that the pool spawns.
struct vms_script {
  int made = 0;
  int adopted = 0;
  int paused = 0;
  bool holds_warm_up = false; ///< never says that it has finished
  bool fails_warm_up = false;
  int warm_up_status = 0; ///< of its program
  bool is_dead_when_asked = false;
  std::vector<pool_plan::class_key> classes;
  std::vector<vm_actor> all;
};

vm_actor::behavior_type vm_double(vm_actor::pointer self, std::shared_ptr<vms_script> script,
                                  work_actor owner) {
  return {
      [script](const frame<proto::StartVm>& m) {
        script->classes.emplace_back(m.view()->getCpus(), m.view()->getMemoryMib());
        return make_frame<proto::VmReady>([](auto r) { r.setNextRun(1); });
      },
      [script](const frame<proto::PauseVm>&) {
        ++script->paused;
        return make_frame<proto::Done>();
      },
      [script](const frame<proto::AdoptVm>&,
               const work_actor& next) -> caf::result<frame<proto::Done>> {
        BOOST_TEST(static_cast<bool>(next));
        if (std::exchange(script->is_dead_when_asked, false)) {
          return make_error(ec::gone, "dead");
        }
        ++script->adopted;
        return make_frame<proto::Done>();
      },
      [self, script, owner](const frame<proto::ToGuest>& m) {
        BOOST_TEST(m.view()->getStart().getMakeDisk());
        if (!script->holds_warm_up) {
          self->request(owner, caf::infinite, make_frame<proto::FromGuest>([&](auto said) {
                          said.setRun(1);
                          said.initExited().initResult().setExitCode(script->warm_up_status);
                        }))
              .then([](const frame<proto::Done>&) {});
          self->request(owner, caf::infinite, make_frame<proto::FromGuest>([&](auto said) {
                          said.setRun(1);
                          said.initFinished().setClean(!script->fails_warm_up);
                        }))
              .then([](const frame<proto::Done>&) {});
        }
        return make_frame<proto::Done>();
      },
      [](const frame<proto::StopVm>&) { return make_frame<proto::VmStopped>(); },
      [](const frame<proto::FromGuest>&) {
        // nop
      },
      [](const frame<proto::VmFailed>&) {
        // nop
      },
      [](const frame<proto::VmStopped>&) {
        // nop
      },
      [](const frame<proto::GuestWritable>&) {
        // nop
      },
      [](const frame<proto::VmOrderDone>&) {
        // nop
      },
  };
}

struct fixture : test::node_fixture {
  std::shared_ptr<vms_script> vms = std::make_shared<vms_script>();
  std::shared_ptr<std::uint64_t> free_bytes = std::make_shared<std::uint64_t>(plenty);
  std::shared_ptr<std::uint64_t> memory_max = std::make_shared<std::uint64_t>(plenty);
  std::shared_ptr<std::uint64_t> newest_template = std::make_shared<std::uint64_t>(1);
  std::shared_ptr<node_metrics> metrics = std::make_shared<node_metrics>();
  vm_pool_actor pool;

  ~fixture() {
    for (const auto& vm : std::exchange(vms->all, {})) {
      self->send_exit(vm, caf::exit_reason::kill);
    }
    self->send_exit(pool, caf::exit_reason::kill);
    drain();
  }

  void start(pool_plan::limits limits = {.floor = 1, .ceiling = 4}) {
    auto parts = std::make_shared<vm_pool_parts>();
    parts->store = store;
    parts->spawn_vm = [v = vms](vm_pool_actor::pointer by, const work_actor& owner) {
      ++v->made;
      BOOST_TEST(static_cast<bool>(owner));
      v->all.push_back(by->spawn(vm_double, v, owner));
      return v->all.back();
    };
    parts->template_of = [known = newest_template](const auto&) {
      return *known;
    };
    parts->memory_max_bytes = [most = memory_max] {
      return *most;
    };
    parts->metrics = metrics;
    parts->free_memory_bytes = [now = free_bytes] {
      return *now;
    };
    parts->limits = limits;
    parts->usual = usual;
    parts->cores = 2;
    pool = sys.spawn(vm_pool, parts);
    drain();
    look();
  }

  void look() {
    advance(vm_pool_state::look_interval);
  }

  struct taken {
    bool is_warm = false;
    std::uint64_t slot = 0;
    vm_actor vm;
  };

  taken take(const pool_plan::class_key& of = usual) {
    std::optional<taken> out;
    auto pending = self->request(pool, caf::infinite, make_frame<proto::TakeVm>([&](auto r) {
                                   r.setCpus(of.first);
                                   r.setMemoryMib(of.second);
                                 }));
    drain();
    pending.receive(
        [&](const frame<proto::VmTaken>& m, const vm_actor& vm) {
          auto view = m.view();
          out = taken{view->getWarm(), view->getSlot(), vm};
        },
        [&](const caf::error& e) { BOOST_FAIL(text_of(e)); });
    return *out;
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(vm_pool_suite, fixture)

BOOST_AUTO_TEST_CASE(a_vm_is_warmed_stopped_and_handed_out_once) {
  start();
  BOOST_TEST(vms->made == 1);
  BOOST_TEST(vms->paused == 1);
  BOOST_TEST(told->discarded.size() == 1u); // what it was warmed on
  BOOST_TEST(told->closed_slots.empty());   // its run's disk comes into the same slot
  auto first = take();
  BOOST_TEST(first.is_warm);
  BOOST_TEST(first.slot == 1u);
  BOOST_TEST(vms->adopted == 1);
  BOOST_TEST((first.vm == vms->all.front()));
  auto second = take();
  BOOST_TEST((second.vm != first.vm));
  BOOST_TEST(second.slot != first.slot);
}

BOOST_AUTO_TEST_CASE(who_finds_none_waiting_gets_one_to_start) {
  start({.floor = 0, .ceiling = 4});
  BOOST_TEST(vms->made == 0);
  auto got = take();
  BOOST_TEST(!got.is_warm);
  BOOST_TEST(got.slot == 1u);
  BOOST_TEST(vms->classes.empty()); // the asker starts it
}

BOOST_AUTO_TEST_CASE(without_a_template_none_waits) {
  *newest_template = 0;
  start();
  BOOST_TEST(vms->made == 0);
  BOOST_TEST(!take().is_warm);
  *newest_template = 1;
  self->send(pool, make_frame<proto::Tick>()); // the shelf says that there is a new one
  drain();
  BOOST_TEST(take().is_warm);
}

BOOST_AUTO_TEST_CASE(each_class_has_vms_of_its_own) {
  start();
  BOOST_TEST(!take(large).is_warm);
  drain();
  look();
  BOOST_TEST((vms->classes.back() == large));
  BOOST_TEST(take(large).is_warm);
  BOOST_TEST(take(usual).is_warm);
}

BOOST_AUTO_TEST_CASE(none_is_made_while_every_core_has_a_vm_that_runs) {
  start({.floor = 2, .ceiling = 4}); // two cores
  auto first = take();
  auto second = take();
  const auto made = vms->made;
  look();
  BOOST_TEST(vms->made == made);
  self->send_exit(first.vm, caf::exit_reason::kill);
  drain();
  BOOST_TEST(vms->made > made);
}

BOOST_AUTO_TEST_CASE(none_waits_while_memory_is_short) {
  start();
  BOOST_TEST(vms->made == 1);
  *free_bytes = 0;
  look();
  BOOST_TEST((told->closed_slots == std::vector<std::uint64_t>{1}));
  BOOST_TEST(!take().is_warm);
  *free_bytes = plenty;
  look();
  BOOST_TEST(take().is_warm);
}

BOOST_AUTO_TEST_CASE(those_that_wait_give_way_to_one_that_runs) {
  // Room for one that runs, in full, and one that waits beside it.
  *memory_max = ((256ull + vm_overhead_mib) << 20) + pool_plan::waiting_bytes;
  start({.floor = 3, .ceiling = 3});
  BOOST_TEST(vms->paused == 3);
  auto runs = take();
  BOOST_TEST(runs.is_warm);
  BOOST_TEST(told->closed_slots.size() == 1u); // at once
  look();
  BOOST_TEST(vms->made == 3);
  self->send_exit(runs.vm, caf::exit_reason::kill);
  drain();
  look();
  BOOST_TEST(vms->made == 5); // its memory is theirs again
}

BOOST_AUTO_TEST_CASE(one_in_the_making_gives_way_too) {
  vms->holds_warm_up = true;
  *memory_max = (256ull + vm_overhead_mib) << 20;
  start();
  BOOST_TEST(vms->made == 1);
  BOOST_TEST(!take().is_warm);
  BOOST_TEST((told->closed_slots == std::vector<std::uint64_t>{1}));
}

BOOST_AUTO_TEST_CASE(none_is_made_before_it_is_known_what_the_node_has) {
  *memory_max = 0;
  start();
  BOOST_TEST(vms->made == 0);
  BOOST_TEST(!take().is_warm);
  *memory_max = plenty;
  look();
  BOOST_TEST(take().is_warm);
}

BOOST_AUTO_TEST_CASE(those_of_an_older_template_are_replaced_one_after_the_other) {
  start({.floor = 2, .ceiling = 2});
  BOOST_TEST(vms->made == 2);
  look();
  BOOST_TEST(vms->made == 2);
  *newest_template = 2;
  look();
  BOOST_TEST(vms->made == 3);
  BOOST_TEST((told->closed_slots == std::vector<std::uint64_t>{1}));
  // The new one is the first to go.
  BOOST_TEST((take().vm == vms->all.back()));
  look();
  look();
  look();
  BOOST_TEST(told->closed_slots.size() == 2u);
  const auto made = vms->made;
  look();
  BOOST_TEST(vms->made == made);
}

BOOST_AUTO_TEST_CASE(without_a_newer_template_those_of_the_older_one_stay) {
  start();
  *newest_template = 0;
  look();
  look();
  BOOST_TEST(told->closed_slots.empty());
  BOOST_TEST(take().is_warm);
}

BOOST_AUTO_TEST_CASE(hits_misses_and_vms_are_counted) {
  start({.floor = 1, .ceiling = 1});
  auto says = [&](const std::string& line) {
    return test::has_line(metrics->text(), line);
  };
  BOOST_TEST(says("coppice_vms{state=\"waiting\"} 1"));
  BOOST_TEST(says("coppice_vm_memory_bytes{of=\"pool\"} 67108864"));
  vms->holds_warm_up = true;
  auto first = take();
  auto second = take();
  auto third = take();
  BOOST_TEST(says("coppice_pool_takes_total{result=\"hit\"} 1"));
  BOOST_TEST(says("coppice_pool_takes_total{result=\"miss\"} 2"));
  BOOST_TEST(says("coppice_vms{state=\"running\"} 3"));
  BOOST_TEST(says("coppice_vms{state=\"waiting\"} 0"));
  self->send_exit(first.vm, caf::exit_reason::kill);
  self->send_exit(second.vm, caf::exit_reason::kill);
  drain();
  BOOST_TEST(says("coppice_vms{state=\"running\"} 1")); // the third
  BOOST_TEST(says("coppice_vms{state=\"preparing\"} 1"));
}

BOOST_AUTO_TEST_CASE(one_that_died_while_it_waited_is_replaced_before_anybody_gets_it) {
  start();
  vms->is_dead_when_asked = true;
  auto got = take();
  BOOST_TEST((got.vm != vms->all.front()));
  BOOST_TEST((told->closed_slots == std::vector<std::uint64_t>{1}));
  BOOST_TEST(got.slot != 1u);
}

BOOST_AUTO_TEST_CASE(one_whose_supervisor_dies_is_replaced) {
  start();
  self->send_exit(vms->all.front(), caf::exit_reason::kill);
  drain();
  BOOST_TEST((told->closed_slots == std::vector<std::uint64_t>{1}));
  look();
  BOOST_TEST(vms->made == 2);
  BOOST_TEST(take().is_warm);
}

BOOST_AUTO_TEST_CASE(one_that_does_not_get_ready_is_given_up_and_the_next_comes_later) {
  vms->holds_warm_up = true;
  start();
  BOOST_TEST(!take().is_warm);
  advance(vm_pool_state::ready_max);
  look();
  BOOST_TEST(told->closed_slots.size() == 1u);
  vms->holds_warm_up = false;
  advance(pool_plan::pause_max);
  BOOST_TEST(take().is_warm);
}

BOOST_AUTO_TEST_CASE(warm_ups_that_fail_are_not_repeated_without_end) {
  vms->fails_warm_up = true;
  start();
  for (int i = 0; i < 30; ++i) {
    look();
  }
  BOOST_TEST(vms->made > 2);
  BOOST_TEST(vms->made < 12);
  BOOST_TEST(told->closed_slots.size() == static_cast<std::size_t>(vms->made));
  BOOST_TEST(vms->paused == 0);
}

BOOST_AUTO_TEST_CASE(a_vm_whose_warm_up_program_fails_does_not_wait) {
  vms->warm_up_status = 1;
  start();
  look();
  BOOST_TEST(vms->paused == 0);
  BOOST_TEST(told->closed_slots.size() == static_cast<std::size_t>(vms->made));
  vms->warm_up_status = 0;
  advance(pool_plan::pause_max);
  BOOST_TEST(take().is_warm);
}

BOOST_AUTO_TEST_SUITE_END()
