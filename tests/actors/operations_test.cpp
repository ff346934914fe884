#include "actors/operations.hpp"
#include "actors/requests.hpp"
#include "tests/actors/node_fixture.hpp"

#include <boost/test/unit_test.hpp>

namespace {

using namespace coppice;
using status = proto::OperationStatus;

/// Work that waits for ever and goes when it is told to.
work_actor::behavior_type patient_work(work_actor::pointer self, operation_actor owner) {
  return {
      [self, owner](const frame<proto::AbortWork>&) {
        self->send(owner, make_frame<proto::WorkGone>());
        self->quit();
      },
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
      [](const frame<proto::ProcessOrder>& m) {
        return make_frame<proto::ProcessAnswer>(
            [&](auto r) { r.setSpid(m.view()->getSpid() + 1); });
      },
  };
}

struct fixture : test::node_fixture {
  operations_actor ops;
  std::vector<uuid> begun;
  std::uint64_t free_bytes = 1;
  std::chrono::steady_clock::time_point later{};

  ~fixture() {
    stop();
  }

  void start(std::uint32_t live_max = 10, std::uint32_t project_live_max = 10) {
    auto parts = std::make_shared<operation_parts>();
    parts->catalog = writer;
    parts->store = store;
    parts->scheduler = slots;
    parts->images = images;
    parts->reserve =
        std::make_shared<storage::space_reserve>([this] { return std::optional{free_bytes}; }, 1,
                                                 [this] {
                                                   later += std::chrono::seconds{1};
                                                   return later;
                                                 });
    parts->spawn_work = [this](operation_actor::pointer parent,
                               const frame<proto::OperationRecord>& record, const uuid&) {
      begun.push_back(uuid::from(record.view()->getId()));
      return parent->spawn<caf::monitored>(patient_work, caf::actor_cast<operation_actor>(parent));
    };
    ops = sys.spawn(operations, parts, reader, operations_limits{live_max, project_live_max});
    drain();
  }

  void stop() {
    if (ops) {
      self->send_exit(ops, caf::exit_reason::user_shutdown);
      drain();
      ops = nullptr;
    }
  }

  auto submit(const char* project = "default") {
    return ask<proto::OperationRecord>(ops, make_frame<proto::StartOperation>([&](auto r) {
                                         r.setProject(project);
                                         r.getRequest().initInstance();
                                       }));
  }

  auto cancel(const uuid& id, const char* project = "default") {
    return ask<proto::OperationRecord>(ops, make_frame<proto::CancelOperation>([&](auto r) {
                                         r.setProject(project);
                                         id.to(r.initId());
                                       }));
  }

  /// As by work that has begun.
  void begin_log(const uuid& id) {
    BOOST_REQUIRE(ask<proto::Done>(writer, make_frame<proto::AppendEvents>([&](auto r) {
                                     id.to(r.initOperation());
                                     r.initEvents(1)[0].initInit();
                                   })));
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(operations_suite, fixture)

BOOST_AUTO_TEST_CASE(new_work_is_in_the_catalog_before_its_asker_hears_of_it) {
  start();
  auto made = submit();
  BOOST_REQUIRE(made);
  auto id = uuid::from(made->view()->getId());
  BOOST_TEST((stored(id).view()->getStatus() == status::PENDING));
  BOOST_TEST((begun == std::vector{id}));
}

BOOST_AUTO_TEST_CASE(beyond_the_limit_nothing_is_started) {
  start(2);
  BOOST_TEST(static_cast<bool>(submit()));
  BOOST_TEST(static_cast<bool>(submit()));
  BOOST_TEST(test::fails_with(submit(), ec::busy));
  BOOST_TEST(begun.size() == 2u);
}

BOOST_AUTO_TEST_CASE(a_project_has_a_limit_of_its_own) {
  start(3, 2);
  BOOST_TEST(static_cast<bool>(submit("a")));
  auto second = submit("a");
  BOOST_REQUIRE(second);
  auto refused = submit("a");
  BOOST_TEST(test::fails_with(refused, ec::busy));
  BOOST_TEST(text_of(refused.error()).find("pending_project_max") != std::string::npos);
  BOOST_TEST(static_cast<bool>(submit("b")));
  refused = submit("c");
  BOOST_TEST(test::fails_with(refused, ec::busy));
  BOOST_TEST(text_of(refused.error()).find("pending_max") != std::string::npos);
  BOOST_TEST(begun.size() == 3u);
  // A place is free again when its operation has ended.
  BOOST_TEST(static_cast<bool>(cancel(uuid::from(second->view()->getId()), "a")));
  drain();
  BOOST_TEST(static_cast<bool>(submit("a")));
  BOOST_TEST(test::fails_with(submit("a"), ec::busy));
}

BOOST_AUTO_TEST_CASE(what_waits_since_before_a_restart_counts) {
  start(10, 10);
  submit("a");
  submit("a");
  stop();
  start(10, 2);
  BOOST_TEST(begun.size() == 4u);
  BOOST_TEST(test::fails_with(submit("a"), ec::busy));
  BOOST_TEST(static_cast<bool>(submit("b")));
}

BOOST_AUTO_TEST_CASE(short_of_space_no_new_work_is_taken_and_old_work_goes_on) {
  start();
  BOOST_TEST(static_cast<bool>(submit()));
  free_bytes = 0;
  BOOST_TEST(test::fails_with(submit(), ec::storage));
  BOOST_TEST(begun.size() == 1u);
  stop();
  start(); // what was accepted runs after a restart, too
  BOOST_TEST(begun.size() == 2u);
  free_bytes = 1;
  BOOST_TEST(static_cast<bool>(submit()));
}

BOOST_AUTO_TEST_CASE(waiting_work_runs_after_a_restart_in_its_old_order) {
  start();
  std::vector<uuid> order;
  for (int i = 0; i < 4; ++i) {
    order.push_back(uuid::from(submit()->view()->getId()));
  }
  stop();
  begun.clear();
  start();
  BOOST_TEST((begun == order));
}

BOOST_AUTO_TEST_CASE(waiting_work_with_large_input_comes_back_page_by_page) {
  std::vector<uuid> order;
  for (int i = 0; i < 5; ++i) {
    order.push_back(uuid::random());
    put(edited(instance_record(order.back(), uuid::random()), [&](auto r) {
      r.setCreatedAtUnixNs(i);
      r.getRequest().getInstance().initStdin(12u << 20);
    }));
  }
  auto running = uuid::random();
  put(edited(instance_record(running, uuid::random()), [](auto r) {
    r.setCreatedAtUnixNs(2);
    r.setStatus(status::EXECUTING);
  }));
  auto first = ask<proto::UnfinishedPage>(reader, make_frame<proto::ListUnfinished>());
  BOOST_REQUIRE(first);
  BOOST_TEST(first->view()->getMore());
  BOOST_TEST(first->bytes().size() < 32u << 20);
  first = caf::sec::none;
  start();
  BOOST_TEST((begun == order));
  BOOST_TEST((stored(running).view()->getStatus() == status::FAILED));
}

BOOST_AUTO_TEST_CASE(running_work_of_a_dead_server_ends_as_failed_with_a_whole_log) {
  auto id = uuid::random();
  auto record = instance_record(id, uuid::random());
  put(record);
  put(edited(record, [](auto r) { r.setStatus(status::EXECUTING); }));
  begin_log(id);
  start();
  BOOST_TEST(begun.empty());
  auto ended = stored(id);
  BOOST_TEST((ended.view()->getStatus() == status::FAILED));
  BOOST_TEST(std::string{ended.view()->getError().cStr()}.find("server stopped") !=
             std::string::npos);
  auto page = events(id);
  auto log = page.view();
  BOOST_REQUIRE(log->getEvents().size() == 2u);
  BOOST_TEST(log->getEvents()[1].isCompletion());
  BOOST_TEST(test::fails_with(cancel(id), ec::conflict));
}

BOOST_AUTO_TEST_CASE(work_whose_record_was_left_behind_by_its_events_does_not_run_again) {
  auto id = uuid::random();
  put(instance_record(id, uuid::random()));
  begin_log(id);
  start();
  BOOST_TEST(begun.empty());
  BOOST_TEST((stored(id).view()->getStatus() == status::FAILED));
  BOOST_TEST(events(id).view()->getEvents().size() == 2u);
}

BOOST_AUTO_TEST_CASE(cancel_knows_only_the_operations_of_the_project) {
  start();
  auto id = uuid::from(submit()->view()->getId());
  BOOST_TEST(test::fails_with(cancel(uuid::random()), ec::not_found));
  BOOST_TEST(test::fails_with(cancel(id, "other"), ec::not_found));
  BOOST_TEST(static_cast<bool>(cancel(id)));
  BOOST_TEST((stored(id).view()->getStatus() == status::CANCELLED));
  BOOST_TEST(test::fails_with(cancel(id), ec::conflict));
}

BOOST_AUTO_TEST_CASE(followers_of_what_is_not_live_are_sent_to_the_catalog) {
  start();
  auto watch = [&](const uuid& id, std::uint64_t have_events) {
    return ask<proto::OperationProgress>(ops, make_frame<proto::WatchOperation>([&](auto r) {
                                           id.to(r.initId());
                                           r.setHaveEvents(have_events);
                                         }));
  };
  auto unknown = watch(uuid::random(), 0);
  BOOST_REQUIRE(unknown);
  BOOST_TEST(!unknown->view()->getLive());
  auto id = uuid::from(submit()->view()->getId());
  BOOST_TEST(static_cast<bool>(cancel(id)));
  drain();
  auto ended = watch(id, 0);
  BOOST_REQUIRE(ended);
  BOOST_TEST(!ended->view()->getLive());
}

BOOST_AUTO_TEST_CASE(a_follower_of_live_work_hears_from_it) {
  start();
  auto id = uuid::from(submit()->view()->getId());
  auto told_later = std::make_shared<bool>(false);
  auto request = make_frame<proto::WatchOperation>([&](auto r) { id.to(r.initId()); });
  ask_later<proto::OperationProgress>(ops, request, [told_later](bool is_answered) {
    BOOST_TEST(is_answered);
    *told_later = true;
  });
  drain();
  BOOST_TEST(!*told_later);
  BOOST_TEST(static_cast<bool>(cancel(id)));
  drain();
  BOOST_TEST(*told_later);
}

BOOST_AUTO_TEST_CASE(orders_for_processes_find_live_operations_of_the_project) {
  start();
  auto made = submit();
  BOOST_REQUIRE(made);
  auto order = [&](const uuid& id, const char* project) {
    return ask<proto::ProcessAnswer>(ops, make_frame<proto::ProcessOrder>([&](auto r) {
                                       r.setProject(project);
                                       id.to(r.initOperation());
                                     }));
  };
  auto id = uuid::from(made->view()->getId());
  BOOST_TEST(test::fails_with(order(id, "default"), ec::too_early)); // it waits
  BOOST_TEST(test::fails_with(order(id, "other"), ec::not_found));
  BOOST_TEST(test::fails_with(order(uuid::random(), "default"), ec::conflict));
}

BOOST_AUTO_TEST_SUITE_END()
