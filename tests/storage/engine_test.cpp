#define BOOST_TEST_MODULE engine
#include "storage/disk/engine.hpp"
#include "storage/disk/nbd_client.hpp"
#include "storage/error.hpp"
#include "tests/storage/disk_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <future>
#include <memory>
#include <vector>

using namespace coppice;
using namespace coppice::storage;
using namespace coppice::storage::test;

namespace {

/// An engine over a folder with one image.
struct engine_fixture : disk_fixture {
  engine_fixture() {
    engine::options how;
    how.loops = 2;
    auto started = engine::start(
        dir.path(),
        [](const uuid& of) -> result<frame<proto::ImageIndex>> {
          return fail(ec::not_found, "no index of image " + of.text());
        },
        how);
    BOOST_REQUIRE(started);
    disks = std::move(*started);
    disks->put_index(image, base(image, {{5, 1}}));
  }

  /// A guest with a disk, and the disk's id.
  std::pair<std::unique_ptr<nbd_client>, uuid> guest() {
    auto slot = disks->open_slot();
    BOOST_REQUIRE(slot);
    last_slot = slot->number;
    auto id = uuid::random();
    std::promise<result<void>> told;
    disks->attach({slot->number, id, image, 1u << 30},
                  [&](result<void> done) { told.set_value(std::move(done)); });
    BOOST_REQUIRE(told.get_future().get());
    auto client = nbd_client::connect(slot->client);
    BOOST_REQUIRE(client);
    return {std::move(*client), id};
  }

  uuid image = uuid::random();
  std::unique_ptr<engine> disks;
  engine::slot_number last_slot = 0;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(engine_suite, engine_fixture)

BOOST_AUTO_TEST_CASE(a_guest_writes_to_its_branch_and_the_branch_becomes_an_image) {
  auto [client, id] = guest();
  content seen(cluster_bytes);
  BOOST_REQUIRE(client->read(5 * cluster_bytes, seen));
  BOOST_TEST((seen == cluster_of(1)));
  BOOST_REQUIRE(client->write(6 * cluster_bytes, cluster_of(2)));
  client.reset();
  std::promise<result<sealed_image>> told;
  disks->seal(id, [&](result<sealed_image> done) { told.set_value(std::move(done)); });
  auto done = told.get_future().get();
  BOOST_REQUIRE_MESSAGE(done, (done ? "" : done.error().text));
  image = id;
  auto [child, unused] = guest();
  BOOST_REQUIRE(child->read(6 * cluster_bytes, seen));
  BOOST_TEST((seen == cluster_of(2)));
  BOOST_REQUIRE(child->read(5 * cluster_bytes, seen));
  BOOST_TEST((seen == cluster_of(1)));
}

BOOST_AUTO_TEST_CASE(a_branch_of_what_is_not_there_is_refused) {
  auto slot = disks->open_slot();
  BOOST_REQUIRE(slot);
  std::promise<result<void>> told;
  disks->attach({slot->number, uuid::random(), uuid::random(), 1},
                [&](result<void> done) { told.set_value(std::move(done)); });
  check_fails(told.get_future().get(), ec::not_found, "no index of image");
  ::close(slot->client);
}

BOOST_AUTO_TEST_CASE(a_stop_gives_every_answer_once_whatever_is_under_way) {
  std::vector<std::unique_ptr<nbd_client>> guests;
  std::atomic<int> answers{0};
  constexpr int disks_count = 24;
  for (int i = 0; i < disks_count; ++i) {
    auto [client, id] = guest();
    BOOST_REQUIRE(client->write(7 * cluster_bytes, cluster_of(3)));
    if (i % 3 == 0) {
      client.reset(); // its guest is gone
    } else {
      guests.push_back(std::move(client));
    }
    if (i % 2 == 0) {
      disks->seal(id, [&](result<sealed_image>) { ++answers; });
    } else {
      disks->discard(id, [&](auto) { ++answers; });
    }
    if (i % 4 < 2) {
      disks->close_slot(last_slot);
    }
  }
  disks->stop();
  BOOST_TEST(answers == disks_count);
  content seen(cluster_bytes);
  for (auto& g : guests) {
    BOOST_TEST(!g->read(0, seen)); // the other end is closed
  }
  disks->stop();
}

BOOST_AUTO_TEST_SUITE_END()
