#include "actors/scheduler.hpp"
#include "tests/support/deterministic.hpp"

#include <boost/test/unit_test.hpp>

#include <vector>

namespace {

using namespace coppice;

struct fixture : test::deterministic {
  scheduler_actor slots = sys.spawn(scheduler, 1u);
  std::vector<uuid> granted;
  std::vector<uuid> refused;
  ~fixture() {
    self->send_exit(slots, caf::exit_reason::user_shutdown);
    drain();
  }

  uuid acquire(proto::OperationKind kind = proto::OperationKind::INSTANCE) {
    auto id = uuid::random();
    ask_later<proto::SlotGranted>(slots, make_frame<proto::AcquireSlot>([&](auto r) {
                                    id.to(r.initOperation());
                                    r.setKind(kind);
                                  }),
                                  [this, id](bool ok) { (ok ? granted : refused).push_back(id); });
    drain();
    return id;
  }

  void release(const uuid& id) {
    self->send(slots, make_frame<proto::ReleaseSlot>([&](auto r) { id.to(r.initOperation()); }));
    drain();
  }

  void ready(std::uint32_t slots_max) {
    self->send(slots, make_frame<proto::SlotsReady>([&](auto r) { r.setRunningMax(slots_max); }));
    drain();
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(scheduler_suite, fixture)

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

BOOST_AUTO_TEST_CASE(imports_have_slots_of_their_own) {
  auto i = acquire(proto::OperationKind::IMAGE_IMPORT);
  BOOST_TEST((granted == std::vector{i}));
  acquire(proto::OperationKind::IMAGE_IMPORT);
  BOOST_TEST(granted.size() == 1u);
  release(i);
  BOOST_TEST(granted.size() == 2u);
}

BOOST_AUTO_TEST_SUITE_END()
