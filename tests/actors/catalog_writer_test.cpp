#include "actors/catalog_writer.hpp"
#include "tests/actors/node_fixture.hpp"

#include <boost/test/unit_test.hpp>

namespace {

using namespace coppice;

struct fixture : test::node_fixture {
  int answered = 0;
  int refused = 0;

  template <class Answer, class Request>
  void count(const frame<Request>& request) {
    ask_later<Answer>(writer, request, [this](bool ok) { ++(ok ? answered : refused); });
  }

  std::uint64_t commits() {
    return state_of<catalog_writer_state>(writer).commits();
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(catalog_writer_suite, fixture)

BOOST_AUTO_TEST_CASE(changes_that_wait_together_share_one_commit) {
  drain();
  for (int i = 0; i < 64; ++i) {
    auto record = instance_record(uuid::random(), uuid::random());
    auto view = record.view();
    count<proto::Done>(make_frame<proto::PutOperation>([&](auto r) { r.setRecord(*view); }));
  }
  drain();
  BOOST_TEST(answered == 64);
  BOOST_TEST(commits() == 1u);
}

BOOST_AUTO_TEST_CASE(a_refused_change_does_not_harm_its_neighbours) {
  drain();
  auto id = uuid::random();
  auto record = instance_record(id, uuid::random());
  auto view = record.view();
  auto bad_tag = make_frame<proto::SetTag>([](auto r) {
    r.setProject("default");
    r.setTag("x");
    uuid::random().to(r.initImage());
  });
  count<proto::ImageRow>(bad_tag);
  count<proto::Done>(make_frame<proto::PutOperation>([&](auto r) { r.setRecord(*view); }));
  count<proto::ImageRow>(bad_tag);
  drain();
  BOOST_TEST(answered == 1);
  BOOST_TEST(refused == 2);
  BOOST_TEST(commits() == 1u);
  BOOST_TEST((uuid::from(stored(id).view()->getId()) == id));
}

BOOST_AUTO_TEST_CASE(nothing_is_answered_before_the_commit) {
  drain();
  auto record = instance_record(uuid::random(), uuid::random());
  auto view = record.view();
  count<proto::Done>(make_frame<proto::PutOperation>([&](auto r) { r.setRecord(*view); }));
  while (answered == 0 && sched.try_run_once()) {
    BOOST_TEST((answered == 0 || commits() == 1u));
  }
  BOOST_TEST(answered == 1);
}

BOOST_AUTO_TEST_SUITE_END()
