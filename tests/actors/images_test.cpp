#include "actors/images.hpp"
#include "actors/requests.hpp"
#include "tests/actors/node_fixture.hpp"

#include <boost/test/unit_test.hpp>

namespace {

using namespace coppice;
using status = proto::OperationStatus;

reclaimer_actor::behavior_type reclaimer_double(reclaimer_actor::pointer,
                                                std::shared_ptr<std::vector<uuid>> gone) {
  return {
      [gone](const frame<proto::ImageDeleted>& m) {
        for (auto id : m.view()->getGone()) {
          gone->push_back(uuid::from(id));
        }
      },
      [](const frame<proto::Tick>&) {
        // nop
      },
  };
}

struct fixture : test::node_fixture {
  std::shared_ptr<std::vector<uuid>> gone = std::make_shared<std::vector<uuid>>();
  reclaimer_actor space = sys.spawn(reclaimer_double, gone);
  std::shared_ptr<inspect_parts> inspect = std::make_shared<inspect_parts>();
  images_actor all;

  fixture() {
    inspect->limit = std::make_shared<session_limit>(1);
    auto parts = std::make_shared<image_parts>();
    parts->inspect = inspect;
    parts->catalog = reader;
    parts->catalog_writer = writer;
    parts->reclaimer = space;
    all = sys.spawn(coppice::images, parts);
    drain();
  }

  ~fixture() {
    for (const auto& a : {all.address(), space.address()}) {
      self->send_exit(a, caf::exit_reason::user_shutdown);
    }
    drain();
  }

  uuid add_image() {
    auto id = uuid::random();
    auto record = make_frame<proto::ImageRecord>([&](auto r) {
      id.to(r.initId());
      r.setProject("default");
    });
    auto t = catalog->begin();
    BOOST_REQUIRE(t);
    BOOST_REQUIRE(t->put_image(*record.view()));
    BOOST_REQUIRE(t->commit());
    return id;
  }

  auto remove(const uuid& id, const char* project = "default") {
    return ask<proto::Done>(all, make_frame<proto::DeleteImage>([&](auto r) {
                              r.setProject(project);
                              id.to(r.initImage());
                            }));
  }

  auto pin(const uuid& image, const uuid& operation) {
    return ask<proto::ImageRow>(all, make_frame<proto::PinImage>([&](auto r) {
                                  r.setProject("default");
                                  image.to(r.initImage());
                                  operation.to(r.initOperation());
                                }));
  }

  void unpin(const uuid& image, const uuid& operation) {
    self->send(all, make_frame<proto::UnpinImage>([&](auto r) {
                 image.to(r.initImage());
                 operation.to(r.initOperation());
               }));
    drain();
  }

  void end(const frame<proto::OperationRecord>& record) {
    auto ended = edited(record, [](auto r) { r.setStatus(status::CANCELLED); });
    auto view = ended.view();
    auto done = ask<proto::Done>(
        writer, make_frame<proto::FinishOperation>([&](auto r) { r.setRecord(*view); }));
    BOOST_REQUIRE(done);
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(images_suite, fixture)

BOOST_AUTO_TEST_CASE(a_deleted_image_is_gone_when_its_asker_hears_of_it_and_its_file_follows) {
  auto id = add_image();
  BOOST_TEST(test::fails_with(remove(id, "other"), ec::not_found));
  BOOST_TEST(catalog->has_image(id));
  BOOST_TEST(gone->empty());
  BOOST_TEST(static_cast<bool>(remove(id)));
  BOOST_TEST(!catalog->has_image(id));
  BOOST_TEST((*gone == std::vector{id}));
  BOOST_TEST(test::fails_with(remove(id), ec::not_found));
  BOOST_TEST(test::fails_with(remove(uuid::random()), ec::not_found));
}

BOOST_AUTO_TEST_CASE(an_accepted_operation_keeps_its_image_before_and_after_it_has_pinned_it) {
  auto image = add_image();
  auto operation = uuid::random();
  auto record = instance_record(operation, image);
  put(record);
  BOOST_TEST(test::fails_with(remove(image), ec::conflict)); // accepted, not yet pinned
  BOOST_TEST(static_cast<bool>(pin(image, operation)));
  BOOST_TEST(test::fails_with(remove(image), ec::conflict));
  // The work has left, the commit of its result has not come: nothing may slip in between.
  unpin(image, operation);
  BOOST_TEST(test::fails_with(remove(image), ec::conflict));
  end(record);
  BOOST_TEST(static_cast<bool>(remove(image)));
}

BOOST_AUTO_TEST_CASE(work_that_is_still_leaving_does_not_hold_the_image_of_an_ended_operation) {
  auto image = add_image();
  auto operation = uuid::random();
  auto record = instance_record(operation, image);
  put(record);
  BOOST_REQUIRE(pin(image, operation));
  end(record);
  BOOST_TEST(static_cast<bool>(remove(image)));
  unpin(image, operation);
  BOOST_TEST(test::fails_with(pin(image, uuid::random()), ec::not_found));
}

BOOST_AUTO_TEST_CASE(of_two_who_delete_at_once_one_hears_that_it_is_gone) {
  auto image = add_image();
  int done = 0;
  int refused = 0;
  for (int i = 0; i < 2; ++i) {
    ask_later<proto::Done>(all, make_frame<proto::DeleteImage>([&](auto r) {
                             r.setProject("default");
                             image.to(r.initImage());
                           }),
                           [&](bool ok) { ++(ok ? done : refused); });
  }
  drain();
  BOOST_TEST(done == 1);
  BOOST_TEST(refused == 1);
  BOOST_TEST((*gone == std::vector{image}));
  advance(std::chrono::seconds{2}); // the clock lets go of the actor
}

BOOST_AUTO_TEST_CASE(an_image_is_held_while_somebody_says_so_and_not_for_ever) {
  const auto image = add_image();
  auto open = ask<proto::InspectSession>(all, make_frame<proto::InspectOpen>([&](auto r) {
                                           r.setProject("default");
                                           image.to(r.initImage());
                                           image.to(r.initOther());
                                           r.setVerb(proto::InspectVerb::DIFF);
                                         }));
  BOOST_REQUIRE(open);
  const auto session = open->view()->getSession();
  const auto next = [&] {
    return ask<proto::InspectChunk>(all, make_frame<proto::InspectNext>([&](auto r) {
                                      image.to(r.initImage());
                                      r.setSession(session);
                                    }));
  };
  for (int i = 0; i < 5; ++i) {
    advance(inspect->hold_kept - std::chrono::seconds{1});
    auto held = next();
    BOOST_REQUIRE(held);
    BOOST_TEST(!held->view()->getLast());
    BOOST_TEST(!inspect->limit->try_take());
  }
  advance(inspect->hold_kept); // the timer was set before the last question
  advance(inspect->hold_kept);
  BOOST_TEST(static_cast<bool>(inspect->limit->try_take()));
  BOOST_TEST(test::fails_with(next(), ec::gone));
  BOOST_TEST(static_cast<bool>(remove(image)));
  advance(std::chrono::seconds{2}); // the clock lets go of the actor
}

BOOST_AUTO_TEST_SUITE_END()
