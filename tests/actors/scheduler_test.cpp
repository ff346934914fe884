#include "actors/node_capacity.hpp"
#include "actors/scheduler.hpp"
#include "tests/support/deterministic.hpp"
#include "tests/support/metric_text.hpp"

#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

namespace {

using namespace coppice;
using namespace std::chrono_literals;

constexpr std::uint32_t default_cpus = 1;
constexpr std::uint32_t default_memory_mib = 256;

struct run {
  std::string project = "default";
  std::uint32_t cpus = 0; ///< 0: the default class
  std::uint32_t memory_mib = 0;
  std::int32_t priority = 0;
  proto::OperationKind kind = proto::OperationKind::INSTANCE;
};

struct fixture : test::deterministic {
  std::shared_ptr<node_metrics> metrics = std::make_shared<node_metrics>();
  scheduler_actor slots =
      sys.spawn(scheduler, scheduler_limits{1, {default_cpus, default_memory_mib}, metrics});
  std::vector<uuid> granted;
  std::vector<uuid> refused;
  ~fixture() {
    self->send_exit(slots, caf::exit_reason::user_shutdown);
    drain();
  }

  static frame<proto::AcquireSlot> wanted(const uuid& id, const run& asked) {
    return make_frame<proto::AcquireSlot>([&](auto r) {
      id.to(r.initOperation());
      r.setProject(asked.project);
      r.setKind(asked.kind);
      r.setCpus(asked.cpus);
      r.setMemoryMib(asked.memory_mib);
      r.setPriority(asked.priority);
    });
  }

  uuid acquire(const run& asked = {}) {
    auto id = uuid::random();
    ask_later<proto::SlotGranted>(slots, wanted(id, asked),
                                  [this, id](bool ok) { (ok ? granted : refused).push_back(id); });
    drain();
    return id;
  }

  uuid acquire_import() {
    run asked;
    asked.kind = proto::OperationKind::IMAGE_IMPORT;
    return acquire(asked);
  }

  void release(const uuid& id) {
    self->send(slots, make_frame<proto::ReleaseSlot>([&](auto r) { id.to(r.initOperation()); }));
    drain();
  }

  void ready(std::uint32_t slots_max, std::uint32_t cpus = 100,
             std::uint64_t memory_mib = 1'000'000) {
    self->send(slots, make_frame<proto::SlotsReady>([&](auto r) {
                 r.setRunningMax(slots_max);
                 r.setCpus(cpus);
                 r.setMemoryMib(memory_mib);
               }));
    drain();
  }

  auto place(const uuid& id) {
    auto answer = ask<proto::QueuePlace>(
        slots, make_frame<proto::GetQueuePlace>([&](auto r) { id.to(r.initOperation()); }));
    BOOST_REQUIRE(answer);
    return *answer;
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(scheduler_suite, fixture)

BOOST_AUTO_TEST_CASE(what_waits_and_what_runs_is_counted) {
  auto a = acquire();
  auto b = acquire();
  acquire_import();
  auto says = [&](const std::string& line) {
    return test::has_line(metrics->text(), line);
  };
  BOOST_TEST(says("coppice_queue_length{kind=\"instance\"} 2"));
  BOOST_TEST(says("coppice_queue_length{kind=\"import\"} 0"));
  BOOST_TEST(says("coppice_slots_used{kind=\"import\"} 1"));
  advance(2s);
  ready(1, 100, 1000);
  BOOST_TEST(says("coppice_queue_length{kind=\"instance\"} 1"));
  BOOST_TEST(says("coppice_slots_used{kind=\"instance\"} 1"));
  BOOST_TEST(says("coppice_vm_cpus_used 1"));
  BOOST_TEST(says("coppice_vm_memory_bytes{of=\"runs\"} 335544320")); // with QEMU's own
  BOOST_TEST(says("coppice_vm_slots_max 1"));
  BOOST_TEST(says("coppice_vm_memory_bytes_max 1048576000"));
  BOOST_TEST(says("coppice_queue_wait_seconds_sum{kind=\"instance\"} 2"));
  release(a);
  release(b);
  BOOST_TEST(says("coppice_slots_used{kind=\"instance\"} 0"));
  BOOST_TEST(says("coppice_vm_memory_bytes{of=\"runs\"} 0"));
}

BOOST_AUTO_TEST_CASE(nothing_runs_before_the_slots_are_ready) {
  auto a = acquire();
  BOOST_TEST(granted.empty());
  ready(1);
  BOOST_TEST((granted == std::vector{a}));
}

BOOST_AUTO_TEST_CASE(slots_are_granted_in_order_of_arrival) {
  ready(2);
  auto a = acquire();
  auto b = acquire();
  auto c = acquire();
  auto d = acquire();
  BOOST_TEST(granted.size() == 2u);
  release(b);
  BOOST_TEST((granted == std::vector{a, b, c}));
  release(a);
  BOOST_TEST((granted == std::vector{a, b, c, d}));
}

BOOST_AUTO_TEST_CASE(a_place_in_the_queue_can_be_given_up) {
  ready(1);
  auto a = acquire();
  auto b = acquire();
  auto c = acquire();
  release(b);
  BOOST_TEST((refused == std::vector{b}));
  release(a);
  BOOST_TEST((granted == std::vector{a, c}));
}

BOOST_AUTO_TEST_CASE(releasing_twice_frees_one_slot) {
  ready(1);
  auto a = acquire();
  acquire();
  acquire();
  release(a);
  release(a);
  release(uuid::random());
  BOOST_TEST(granted.size() == 2u);
}

BOOST_AUTO_TEST_CASE(an_operation_has_one_place) {
  ready(1);
  auto a = acquire();
  auto again = ask<proto::SlotGranted>(slots, wanted(a, {}));
  BOOST_TEST(test::fails_with(again, ec::conflict));
  auto b = acquire();
  release(a);
  BOOST_TEST((granted == std::vector{a, b}));
}

BOOST_AUTO_TEST_CASE(imports_have_slots_of_their_own) {
  auto i = acquire_import();
  BOOST_TEST((granted == std::vector{i}));
  auto j = acquire_import();
  BOOST_TEST(granted.size() == 1u);
  BOOST_TEST(place(j).view()->getPosition() == 1u);
  release(i);
  BOOST_TEST(granted.size() == 2u);
}

BOOST_AUTO_TEST_CASE(projects_get_equal_shares) {
  ready(2);
  auto a = acquire({"many"});
  auto b = acquire({"many"});
  acquire({"many"});
  auto one = acquire({"one"});
  release(a);
  BOOST_TEST((granted == std::vector{a, b, one}));
}

BOOST_AUTO_TEST_CASE(a_class_takes_its_processors_and_memory) {
  ready(10, 4, 4 * (default_memory_mib + vm_overhead_mib));
  auto two = acquire({"a", 2, 100});
  auto large = acquire({"a", 1, 800});
  auto waits = acquire();
  BOOST_TEST((granted == std::vector{two, large}));
  release(two);
  BOOST_TEST((granted == std::vector{two, large, waits}));
}

BOOST_AUTO_TEST_CASE(what_is_larger_than_the_node_is_refused_at_once) {
  auto early = acquire({"a", 5, 256});
  ready(10, 4, 1024);
  BOOST_TEST((refused == std::vector{early}));
  for (const run& asked : {run{"a", 5, 256}, run{"a", 1, 1024}}) {
    auto answer = ask<proto::SlotGranted>(slots, wanted(uuid::random(), asked));
    BOOST_TEST(test::fails_with(answer, ec::invalid));
    BOOST_TEST(text_of(answer.error()).find("4 processors and 1024 MiB") != std::string::npos);
  }
  acquire({"a", 4, 1024 - vm_overhead_mib});
  BOOST_TEST(granted.size() == 1u);
}

BOOST_AUTO_TEST_CASE(priority_counts_within_a_project) {
  ready(1);
  auto a = acquire();
  auto usual = acquire();
  auto urgent = acquire({"default", 0, 0, 10});
  release(a);
  release(urgent);
  BOOST_TEST((granted == std::vector{a, urgent, usual}));
}

BOOST_AUTO_TEST_CASE(a_waiting_operation_knows_its_place_and_wait) {
  ready(1);
  auto a = acquire();
  auto b = acquire();
  advance(std::chrono::seconds{2});
  auto c = acquire();
  advance(std::chrono::seconds{1});
  auto of_b = place(b);
  BOOST_TEST(of_b.view()->getWaiting());
  BOOST_TEST(of_b.view()->getPosition() == 1u);
  BOOST_TEST(of_b.view()->getWaitedUs() == 3'000'000u);
  auto of_c = place(c);
  BOOST_TEST(of_c.view()->getPosition() == 2u);
  BOOST_TEST(of_c.view()->getWaitedUs() == 1'000'000u);
  BOOST_TEST(!place(a).view()->getWaiting());
  BOOST_TEST(!place(uuid::random()).view()->getWaiting());
}

BOOST_AUTO_TEST_SUITE_END()
