#include "actors/event_trimmer.hpp"

#include "actors/requests.hpp"
#include "tests/actors/node_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <optional>
#include <vector>

namespace {

using namespace coppice;
using namespace std::chrono_literals;
using status = proto::OperationStatus;

/// What a writer was asked, and what it answers.
struct writer_script {
  std::vector<std::int64_t> before;
  std::vector<std::uint64_t> kept;
  std::vector<std::uint32_t> rows;
  unsigned pieces = 0; ///< that are still due
  bool fails = false;
};

catalog_writer_actor::behavior_type writer_double(catalog_writer_actor::pointer,
                                                  std::shared_ptr<writer_script> s) {
  auto done = [] {
    return make_frame<proto::Done>();
  };
  return {
      [done](const frame<proto::PutOperation>&) { return done(); },
      [done](const frame<proto::AppendEvents>&) { return done(); },
      [done](const frame<proto::FinishOperation>&) { return done(); },
      [](const frame<proto::SetTag>&) { return make_frame<proto::ImageRow>(); },
      [done](const frame<proto::RemoveTag>&) { return done(); },
      [](const frame<proto::DeleteImage>&) { return make_frame<proto::ImageDeleted>(); },
      [](const frame<proto::PutFile>&) { return make_frame<proto::FileRecord>(); },
      [s](const frame<proto::TrimEvents>& m) -> caf::result<frame<proto::EventsTrimmed>> {
        auto v = m.view();
        s->before.push_back(v->getEndedBeforeUnixNs());
        s->kept.push_back(v->getLogsKeptMax());
        s->rows.push_back(v->getRowsMax());
        if (s->fails) {
          return make_error(ec::storage, "no space");
        }
        s->pieces -= s->pieces > 0 ? 1 : 0;
        return make_frame<proto::EventsTrimmed>([&](auto r) { r.setMore(s->pieces > 0); });
      },
      [](const frame<proto::Tick>&) {
        // nop
      },
  };
}

struct scripted : test::deterministic {
  std::shared_ptr<writer_script> script = std::make_shared<writer_script>();
  catalog_writer_actor writer = sys.spawn(writer_double, script);
  event_trimmer_actor trimmer;

  void start() {
    trimmer = sys.spawn(event_trimmer, writer, event_policy{1h, 42});
    drain();
  }

  ~scripted() {
    self->send_exit(trimmer, caf::exit_reason::user_shutdown);
    self->send_exit(writer, caf::exit_reason::user_shutdown);
    drain();
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(event_trimmer_pace, scripted)

BOOST_AUTO_TEST_CASE(the_policy_is_asked_for_in_bounded_pieces) {
  const auto earliest = unix_now_ns() - std::chrono::nanoseconds{1h}.count();
  start();
  BOOST_REQUIRE(script->before.size() == 1u);
  BOOST_TEST(script->before[0] >= earliest);
  BOOST_TEST(script->before[0] <= unix_now_ns() - std::chrono::nanoseconds{1h}.count());
  BOOST_TEST(script->kept[0] == 42u);
  BOOST_TEST(script->rows[0] == event_trimmer_state::rows_max);
}

BOOST_AUTO_TEST_CASE(pieces_follow_each_other_with_a_pause_until_nothing_is_due) {
  script->pieces = 3;
  start();
  BOOST_TEST(script->rows.size() == 1u);
  advance(event_trimmer_state::pause - 1ms);
  BOOST_TEST(script->rows.size() == 1u);
  advance(1ms);
  BOOST_TEST(script->rows.size() == 2u);
  advance(event_trimmer_state::pause);
  BOOST_TEST(script->rows.size() == 3u);
  advance(event_trimmer_state::interval - 1ms);
  BOOST_TEST(script->rows.size() == 3u);
  advance(1ms);
  BOOST_TEST(script->rows.size() == 4u);
}

BOOST_AUTO_TEST_CASE(a_failed_piece_is_tried_again_at_the_next_look) {
  script->fails = true;
  start();
  advance(event_trimmer_state::pause);
  BOOST_TEST(script->rows.size() == 1u);
  script->fails = false;
  advance(event_trimmer_state::interval);
  BOOST_TEST(script->rows.size() == 2u);
}

BOOST_AUTO_TEST_SUITE_END()

namespace {

struct with_catalog : test::node_fixture {
  event_trimmer_actor trimmer;

  ~with_catalog() {
    self->send_exit(trimmer, caf::exit_reason::user_shutdown);
    drain();
  }

  uuid ended(std::int64_t at_unix_ns, unsigned events) {
    auto id = uuid::random();
    auto record = instance_record(id, uuid::random());
    put(record);
    auto done = ask<proto::Done>(writer, make_frame<proto::FinishOperation>([&](auto r) {
                                   auto view = record.view();
                                   r.setRecord(*view);
                                   r.getRecord().setStatus(status::SUCCESS);
                                   r.getRecord().setEndedAtUnixNs(at_unix_ns);
                                   auto list = r.initEvents(events);
                                   for (unsigned i = 0; i < events; ++i) {
                                     list[i].setId(i);
                                     list[i].initCompletion();
                                   }
                                 }));
    BOOST_REQUIRE(done);
    return id;
  }

  bool is_trimmed(const uuid& id) {
    auto page = ask<proto::EventPage>(reader, make_frame<proto::ListEvents>([&](auto r) {
                                        id.to(r.initOperation());
                                        r.setMaxBytes(1);
                                      }));
    BOOST_TEST((page || test::fails_with(page, ec::gone)));
    return !page;
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(event_trimmer_and_catalog, with_catalog)

BOOST_AUTO_TEST_CASE(old_logs_go_piece_by_piece_and_new_ones_stay) {
  const auto now = unix_now_ns();
  auto old_one = ended(now - std::chrono::nanoseconds{25h}.count(), 2500);
  auto other = ended(now - std::chrono::nanoseconds{24h + 1min}.count(), 1);
  auto fresh = ended(now - std::chrono::nanoseconds{23h}.count(), 1);
  auto& commits = state_of<catalog_writer_state>(writer);
  const auto before = commits.commits();
  trimmer = sys.spawn(event_trimmer, writer, event_policy{24h, 100});
  drain();
  BOOST_TEST(is_trimmed(old_one));
  BOOST_TEST(!is_trimmed(other));
  for (int i = 0; i < 4; ++i) {
    advance(event_trimmer_state::pause);
  }
  BOOST_TEST(commits.commits() - before == 3u);
  BOOST_TEST(is_trimmed(other));
  BOOST_TEST(!is_trimmed(fresh));
  BOOST_TEST(stored(old_one).view()->getEventCount() == 2500u);
}

BOOST_AUTO_TEST_CASE(logs_beyond_the_number_to_keep_go_oldest_first) {
  const auto now = unix_now_ns();
  std::vector<uuid> ids;
  for (int i = 0; i < 5; ++i) {
    ids.push_back(ended(now - i, 3));
  }
  trimmer = sys.spawn(event_trimmer, writer, event_policy{24h, 2});
  drain();
  for (std::size_t i = 0; i < ids.size(); ++i) {
    BOOST_TEST(is_trimmed(ids[i]) == (i >= 2));
  }
  ids.push_back(ended(now + 1, 1));
  advance(event_trimmer_state::interval);
  BOOST_TEST(is_trimmed(ids[1]));
  BOOST_TEST(!is_trimmed(ids[0]));
}

BOOST_AUTO_TEST_SUITE_END()
