#include "actors/reclaimer.hpp"
#include "storage/error.hpp"
#include "tests/actors/node_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <set>

namespace {

using namespace coppice;
using namespace std::chrono_literals;

struct fixture : test::node_fixture {
  std::vector<uuid> removed;
  std::vector<uuid> punched;
  std::set<uuid> failing;
  std::chrono::milliseconds a_look_takes{1};
  std::chrono::steady_clock::time_point now;
  std::function<void(const uuid&)> during_punch;
  reclaimer_actor space;

  void start() {
    reclaimer_parts parts;
    parts.catalog = catalog;
    parts.remove = [this](const uuid& id) -> result<std::uint64_t> {
      removed.push_back(id);
      if (failing.contains(id)) {
        return fail(storage::ec::io, "no");
      }
      return std::uint64_t{4096};
    };
    parts.punch = [this](const uuid& id) -> result<std::uint64_t> {
      punched.push_back(id);
      now += a_look_takes;
      if (during_punch) {
        during_punch(id);
      }
      if (failing.contains(id)) {
        return fail(storage::ec::io, "no");
      }
      return std::uint64_t{0};
    };
    parts.now = [this] {
      return now;
    };
    space = sys.spawn(reclaimer, parts);
  }

  ~fixture() {
    if (space) {
      self->send_exit(space, caf::exit_reason::user_shutdown);
    }
    drain();
  }

  void tell(const std::vector<uuid>& gone, const std::vector<uuid>& dead) {
    self->send(space, make_frame<proto::ImageDeleted>([&](auto r) {
                 auto fill = [](auto list, const std::vector<uuid>& ids) {
                   for (capnp::uint i = 0; i < list.size(); ++i) {
                     ids[i].to(list[i]);
                   }
                 };
                 fill(r.initGone(static_cast<capnp::uint>(gone.size())), gone);
                 fill(r.initDead(static_cast<capnp::uint>(dead.size())), dead);
               }));
  }

  uuid add_image(const uuid& parent) {
    auto id = uuid::random();
    auto record = make_frame<proto::ImageRecord>([&](auto r) {
      id.to(r.initId());
      r.setProject("default");
      if (parent) {
        parent.to(r.initParent());
      }
    });
    auto t = catalog->begin();
    BOOST_REQUIRE(t);
    BOOST_REQUIRE(t->put_image(*record.view()));
    BOOST_REQUIRE(t->commit());
    return id;
  }
};

const uuid a{1, 1};
const uuid b{1, 2};
const uuid c{1, 3};

} // namespace

BOOST_FIXTURE_TEST_SUITE(reclaimer_suite, fixture)

BOOST_AUTO_TEST_CASE(files_go_first_and_one_that_fails_does_not_hold_up_the_others) {
  start();
  failing = {a};
  tell({a, b}, {c});
  drain();
  BOOST_TEST((removed == std::vector{a, b}));
  BOOST_TEST((punched == std::vector{c}));
}

BOOST_AUTO_TEST_CASE(a_file_that_many_deletions_concern_is_looked_at_once) {
  start();
  for (int i = 0; i < 100; ++i) {
    tell({}, {a, b});
  }
  drain();
  BOOST_TEST(punched.size() == 2u);
  tell({}, {a});
  drain();
  BOOST_TEST(punched.size() == 3u); // what is deleted later concerns it again
}

BOOST_AUTO_TEST_CASE(a_deletion_during_a_look_makes_it_look_again) {
  start();
  during_punch = [this](const uuid&) {
    during_punch = nullptr;
    tell({}, {a});
  };
  tell({}, {a});
  drain();
  BOOST_TEST((punched == std::vector{a, a}));
}

BOOST_AUTO_TEST_CASE(what_takes_long_to_look_at_rests_before_the_next_look) {
  start();
  a_look_takes = 500ms;
  tell({}, {a});
  drain();
  tell({}, {a});
  drain();
  BOOST_TEST(punched.size() == 1u);
  tell({c}, {b}); // others do not wait for it
  drain();
  BOOST_TEST((removed == std::vector{c}));
  BOOST_TEST((punched == std::vector{a, b}));
  advance(4s);
  BOOST_TEST(punched.size() == 2u);
  advance(2s);
  BOOST_TEST((punched == std::vector{a, b, a}));
}

BOOST_AUTO_TEST_CASE(deleted_images_whose_files_stand_are_looked_at_after_a_start) {
  auto root = add_image({});
  auto middle = add_image(root);
  add_image(middle);
  auto t = catalog->begin();
  BOOST_REQUIRE(t);
  BOOST_REQUIRE(t->delete_image("default", root));
  BOOST_REQUIRE(t->delete_image("default", middle));
  BOOST_REQUIRE(t->commit());
  start();
  drain();
  BOOST_TEST((std::set<uuid>(punched.begin(), punched.end()) == std::set<uuid>{root, middle}));
  BOOST_TEST(punched.size() == 2u);
}

BOOST_AUTO_TEST_SUITE_END()
