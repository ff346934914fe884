#include "actors/images.hpp"
#include "storage/error.hpp"
#include "storage/frame_stream.hpp"
#include "tests/actors/node_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <thread>

namespace {

using namespace coppice;
using namespace std::chrono_literals;

using told = frame<proto::InspectAnswer>;

struct config : caf::actor_system_config {
  config() {
    add_message_types<caf::id_block::coppice>();
    set("scheduler.policy", caf::atom("sharing"));
  }
};

reclaimer_actor::behavior_type no_reclaimer(reclaimer_actor::pointer) {
  return {
      [](const frame<proto::ImageDeleted>&) {
        // nop
      },
      [](const frame<proto::Tick>&) {
        // nop
      },
  };
}

/// Images, their sessions' actors, and threads in the place of reader processes. Time is real, so
/// that what ends by itself has to.
struct fixture {
  storage::test::scratch dir;
  std::shared_ptr<storage::catalog> catalog = std::move(*storage::catalog::open(dir / "catalog"));
  std::shared_ptr<test::heard> heard = std::make_shared<test::heard>();
  std::vector<std::thread> workers;
  /// What every worker answers.
  std::function<told(proto::InspectOrder::Reader)> answer;
  std::shared_ptr<inspect_parts> inspect = std::make_shared<inspect_parts>();
  std::shared_ptr<image_parts> parts = std::make_shared<image_parts>();

  config cfg;
  caf::actor_system sys{cfg};
  caf::scoped_actor self{sys};
  catalog_reader_actor reader = sys.spawn(catalog_reader, catalog);
  catalog_writer_actor writer = sys.spawn(catalog_writer, catalog);
  store_actor store = sys.spawn(test::store_double, heard);
  reclaimer_actor space = sys.spawn(no_reclaimer);
  images_actor all;

  fixture() {
    inspect->start_worker = [this](std::vector<vmm::unique_fd>) {
      return start_worker();
    };
    inspect->store = store;
    inspect->sockets = std::make_shared<disk_sockets>();
    inspect->index_of = [](const uuid&) -> result<std::shared_ptr<const storage::block_index>> {
      return fail(storage::ec::not_found, "no index");
    };
    inspect->limit = std::make_shared<session_limit>(4);
    inspect->idle_timeout = 1h;
    inspect->reader_kept = 1h;
    parts->catalog = reader;
    parts->catalog_writer = writer;
    parts->reclaimer = space;
    parts->inspect = inspect;
    parts->reading_grace = 1h;
    all = sys.spawn(images, parts);
  }

  ~fixture() {
    stop_images();
    for (const auto& a : {reader.address(), writer.address(), store.address(), space.address()}) {
      self->send_exit(a, caf::exit_reason::user_shutdown);
    }
  }

  /// Waits for every reader to be gone.
  void stop_images() {
    self->send_exit(all, caf::exit_reason::user_shutdown);
    for (auto& w : workers) {
      w.join();
    }
    workers.clear();
  }

  result<std::unique_ptr<inspect_worker>> start_worker() {
    int ends[2]{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
      return fail(storage::ec::io, "socketpair");
    }
    workers.emplace_back([this, socket = vmm::unique_fd{ends[1]}] {
      for (;;) {
        auto bytes = storage::read_frame(socket.get());
        if (!bytes || !*bytes) {
          return;
        }
        auto order = checked<proto::InspectOrder>(**bytes, 1u << 20);
        if (!storage::write_frame(socket.get(), answer(*order->view()))) {
          return;
        }
      }
    });
    return inspect_worker::over(vmm::unique_fd{ends[0]}, 10s);
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

  template <class Answer, class Request>
  caf::expected<frame<Answer>> ask(const frame<Request>& request) {
    caf::expected<frame<Answer>> out{caf::error{}};
    self->request(all, caf::infinite, request)
        .receive([&](frame<Answer>& given) { out = std::move(given); },
                 [&](caf::error& e) { out = std::move(e); });
    return out;
  }

  caf::expected<frame<proto::InspectSession>> open(const uuid& image, proto::InspectVerb verb,
                                                   const uuid& other = {}) {
    return ask<proto::InspectSession>(make_frame<proto::InspectOpen>([&](auto r) {
      r.setProject("default");
      image.to(r.initImage());
      r.setVerb(verb);
      if (other) {
        other.to(r.initOther());
      }
    }));
  }

  caf::expected<frame<proto::InspectChunk>> next(const uuid& image, std::uint64_t session) {
    return ask<proto::InspectChunk>(make_frame<proto::InspectNext>([&](auto r) {
      image.to(r.initImage());
      r.setSession(session);
    }));
  }

  caf::expected<frame<proto::Done>> remove(const uuid& image) {
    return ask<proto::Done>(make_frame<proto::DeleteImage>([&](auto r) {
      r.setProject("default");
      image.to(r.initImage());
    }));
  }

  /// A session that is read to its end.
  void read_all(const uuid& image, proto::InspectVerb verb, const uuid& other = {}) {
    auto session = open(image, verb, other);
    BOOST_REQUIRE(session);
    auto chunk = next(image, session->view()->getSession());
    BOOST_REQUIRE(chunk);
    BOOST_REQUIRE(chunk->view()->getLast());
  }
};

/// All of the work is opened, then comes what `more` makes.
template <class Fill>
auto after_opening(Fill more) {
  return [more](proto::InspectOrder::Reader order) {
    return make_frame<proto::InspectAnswer>([&](auto root) {
      if (order.isWork()) {
        root.setOpened(0);
      } else {
        more(root);
      }
    });
  };
}

void one_change(proto::InspectAnswer::Builder root) {
  root.initChanges(1)[0].setPath(capnp::Data::Reader{reinterpret_cast<const kj::byte*>("ab"), 2});
  root.setLast(true);
}

/// The same bytes, said to be something else.
told disguised(const told& answer, proto::InspectAnswer::Which as) {
  auto words = kj::heapArray<capnp::word>(answer.words());
  const auto was = static_cast<std::uint16_t>(answer.view()->which());
  auto numbers = std::span{reinterpret_cast<std::uint16_t*>(words.begin()), words.size() * 4};
  // Behind the head of the message, the root's pointer and the number of `opened`.
  auto found = std::find(numbers.begin() + 12, numbers.end(), was);
  BOOST_REQUIRE(found != numbers.end());
  *found = static_cast<std::uint16_t>(as);
  told out{kj::mv(words)};
  BOOST_REQUIRE(out.view()->which() == as);
  return out;
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(inspect_readers, fixture)

BOOST_AUTO_TEST_CASE(a_reader_that_never_tells_anything_is_ended) {
  answer = after_opening([](auto root) { root.initChanges(0); });
  inspect->silence_max = 0ms;
  auto image = add_image();
  auto session = open(image, proto::InspectVerb::GREP);
  BOOST_REQUIRE(session);
  const auto number = session->view()->getSession();
  auto first = next(image, number);
  BOOST_REQUIRE(first); // that may be
  BOOST_TEST(first->view()->getChanges().size() == 0u);
  BOOST_TEST(test::fails_with(next(image, number), ec::damaged));
}

BOOST_AUTO_TEST_CASE(a_reader_with_something_to_tell_is_not_ended) {
  answer = after_opening([](auto root) {
    one_change(root);
    root.setLast(false);
  });
  inspect->silence_max = 0ms;
  auto image = add_image();
  auto session = open(image, proto::InspectVerb::GREP);
  BOOST_REQUIRE(session);
  for (int i = 0; i < 4; ++i) {
    auto chunk = next(image, session->view()->getSession());
    BOOST_REQUIRE(chunk);
    BOOST_TEST(chunk->view()->getChanges().size() == 1u);
  }
}

/// A reader that waits for an hour, one in the middle of a session, and the timers of both.
BOOST_AUTO_TEST_CASE(all_readers_end_with_the_directory_of_images) {
  answer = after_opening(one_change);
  read_all(add_image(), proto::InspectVerb::GREP);
  BOOST_REQUIRE(open(add_image(), proto::InspectVerb::GREP));
  BOOST_TEST(workers.size() == 2u);
  stop_images(); // comes back
  BOOST_TEST(workers.empty());
}

BOOST_AUTO_TEST_CASE(a_reader_of_two_images_takes_no_other_ones_place) {
  answer = after_opening(one_change);
  inspect->shelf = std::make_shared<inspect_shelf>(1);
  auto image = add_image();
  auto older = add_image();
  read_all(image, proto::InspectVerb::GREP);
  read_all(older, proto::InspectVerb::DIFF, image);
  BOOST_REQUIRE(remove(older)); // its reader has gone
  BOOST_TEST(workers.size() == 2u);
  read_all(image, proto::InspectVerb::GREP);
  BOOST_TEST(workers.size() == 2u); // the first one again
}

BOOST_AUTO_TEST_CASE(an_answer_of_a_wrong_shape_ends_its_reader) {
  using which = proto::InspectAnswer::Which;
  const auto honest = make_frame<proto::InspectAnswer>([](auto root) { one_change(root); });
  bool is_opening = true;
  auto wrong = honest;
  answer = [&](proto::InspectOrder::Reader order) {
    return order.isMore() || !is_opening
               ? wrong
               : make_frame<proto::InspectAnswer>([](auto root) { root.setOpened(0); });
  };
  auto image = add_image();
  BOOST_REQUIRE_NO_THROW(read_all(image, proto::InspectVerb::GREP));
  for (auto as : {which::ENTRIES, which::DATA, which::FAILED, which::PARTS, which::OPENED}) {
    wrong = disguised(honest, as);
    auto session = open(image, proto::InspectVerb::GREP);
    BOOST_REQUIRE(session);
    BOOST_TEST(test::fails_with(next(image, session->view()->getSession()), ec::damaged));
  }
  is_opening = false;
  wrong = disguised(honest, which::FAILED);
  for (int i = 0; i < 2; ++i) {
    BOOST_TEST(test::fails_with(open(image, proto::InspectVerb::GREP), ec::damaged));
  }
  BOOST_TEST(workers.size() == 7u); // none of them was used again
}

BOOST_AUTO_TEST_SUITE_END()
