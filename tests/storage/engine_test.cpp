#define BOOST_TEST_MODULE engine
#include "storage/disk/engine.hpp"
#include "storage/disk/nbd_client.hpp"
#include "storage/error.hpp"
#include "tests/storage/disk_fixture.hpp"
#include "tests/storage/watched_engine.hpp"

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

// -- uploads and imports beside disks ------------------------------------------------------------

namespace {

using call = io_request::call;

/// A branch is attached, written to, read and sealed.
void use_a_branch(engine& disks, const uuid& parent) {
  auto slot = disks.open_slot();
  BOOST_REQUIRE(slot);
  auto id = uuid::random();
  BOOST_REQUIRE(answer_of<void>([&](auto then) {
    disks.attach({slot->number, id, parent, 1u << 30}, std::move(then));
  }));
  auto client = nbd_client::connect(slot->client);
  BOOST_REQUIRE(client);
  BOOST_REQUIRE((*client)->write(7 * cluster_bytes, cluster_of(9)));
  content seen(cluster_bytes);
  BOOST_REQUIRE((*client)->read(5 * cluster_bytes, seen));
  BOOST_TEST((seen == cluster_of(1)));
  client->reset();
  BOOST_REQUIRE(answer_of<sealed_image>([&](auto then) { disks.seal(id, std::move(then)); }));
  disks.close_slot(slot->number);
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(work_beside_disks, watched_engine)

BOOST_AUTO_TEST_CASE(an_upload_whose_sync_takes_long_holds_up_no_branch) {
  auto upload = begin_blob(*disks).value();
  BOOST_REQUIRE(append_blob(*disks, upload, "abc"));
  hold(calls(call::sync_data, "uploads"));
  awaited<stored_blob> stored;
  disks->finish_blob(upload, stored.answer());
  wait_until_held();
  use_a_branch(*disks, image);
  BOOST_TEST(!stored.is_there());
  release();
  BOOST_TEST(stored.get().has_value());
}

BOOST_AUTO_TEST_CASE(an_import_whose_check_and_sync_take_long_holds_up_no_branch) {
  for (auto slow : {call::read, call::sync_data}) {
    auto id = import();
    hold(calls(slow, id.text()));
    awaited<sealed_image> sealed;
    disks->seal_import(id, sealed.answer());
    wait_until_held();
    use_a_branch(*disks, image);
    BOOST_TEST(!sealed.is_there());
    release();
    auto done = sealed.get();
    BOOST_REQUIRE_MESSAGE(done, (done ? "" : done.error().text));
    use_a_branch(*disks, id); // its index is known
  }
}

BOOST_AUTO_TEST_CASE(an_import_is_sealed_once_at_a_time) {
  auto id = import();
  hold(calls(call::read, id.text()));
  awaited<sealed_image> sealed;
  disks->seal_import(id, sealed.answer());
  wait_until_held();
  check_fails(seal_import(*disks, id), ec::conflict, "already");
  release();
  BOOST_TEST(sealed.get().has_value());
  check_fails(seal_import(*disks, id), ec::not_found, ".overlay");
}

BOOST_AUTO_TEST_CASE(an_import_that_is_discarded_while_it_is_sealed_leaves_nothing) {
  const auto before = files_in_images();
  for (auto at : {call::read, call::sync_data, call::rename}) {
    auto id = import();
    hold(calls(at, id.text()));
    awaited<sealed_image> sealed;
    awaited<engine::discarded> gone;
    disks->seal_import(id, sealed.answer());
    wait_until_held();
    disks->discard(id, gone.answer());
    BOOST_TEST(!gone.is_there()); // it comes behind the seal
    release();
    BOOST_TEST(gone.get().has_value());
    BOOST_REQUIRE(sealed.is_there());
    auto outcome = sealed.get();
    if (at == call::read) {
      check_fails(outcome, ec::conflict, "stopped");
    } else {
      BOOST_TEST(outcome.has_value());
    }
    BOOST_TEST(files_in_images() == before);
    check_fails(disks->indexes().get(id), ec::not_found, "no index");
  }
}

BOOST_AUTO_TEST_CASE(a_stop_while_a_piece_of_an_upload_is_in_the_air_leaves_no_upload) {
  auto upload = begin_blob(*disks).value();
  begin_blob(*disks).value(); // idle
  hold(calls(call::write, "uploads"));
  awaited<void> written;
  disks->append_blob(upload, copy_of("abc"), written.answer());
  stop_while_held();
  BOOST_REQUIRE(written.is_there());
  BOOST_TEST(std::filesystem::is_empty(state / "uploads"));
  BOOST_TEST(std::filesystem::is_empty(state / "blobs"));
}

BOOST_AUTO_TEST_CASE(a_stop_while_an_upload_is_made_durable_waits_for_it) {
  auto upload = begin_blob(*disks).value();
  BOOST_REQUIRE(append_blob(*disks, upload, "abc"));
  hold(calls(call::sync_data, "uploads"));
  awaited<stored_blob> stored;
  disks->finish_blob(upload, stored.answer());
  stop_while_held();
  BOOST_REQUIRE(stored.is_there());
  BOOST_TEST(stored.get().has_value());
  BOOST_TEST(std::filesystem::is_empty(state / "uploads"));
  BOOST_TEST(!std::filesystem::is_empty(state / "blobs"));
}

BOOST_AUTO_TEST_CASE(a_stop_while_imports_are_checked_answers_each_of_them) {
  std::vector<uuid> ids;
  std::vector<awaited<sealed_image>> answers(8);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    ids.push_back(import());
  }
  hold(calls(call::read, ids.front().text()));
  for (std::size_t i = 0; i < answers.size(); ++i) {
    disks->seal_import(ids[i], answers[i].answer());
  }
  stop_while_held();
  for (std::size_t i = 0; i < answers.size(); ++i) {
    BOOST_REQUIRE(answers[i].is_there());
    auto done = answers[i].get();
    BOOST_TEST(std::filesystem::exists(file_of(ids[i])) == done.has_value());
    if (!done) {
      check_fails(done, ec::conflict, "stopped");
    }
  }
}

struct two_loops : watched_engine {
  two_loops() : watched_engine{2} {}
};

BOOST_FIXTURE_TEST_CASE(a_stop_carries_out_what_waits_behind_an_import_on_another_loop, two_loops) {
  auto id = uuid::random();
  while (std::hash<uuid>{}(id) % 2 != 1) {
    id = uuid::random(); // its file is the last loop's, and what has no slot is the first's
  }
  import(id);
  hold(calls(call::sync_data, id.text()));
  awaited<sealed_image> sealed;
  awaited<engine::discarded> gone;
  disks->seal_import(id, sealed.answer());
  wait_until_held();
  disks->discard(id, gone.answer());
  stop_while_held();
  BOOST_REQUIRE(sealed.is_there());
  BOOST_TEST(sealed.get().has_value());
  BOOST_REQUIRE(gone.is_there());
  BOOST_TEST(gone.get().has_value());
  BOOST_TEST(!std::filesystem::exists(file_of(id)));
}

BOOST_AUTO_TEST_CASE(a_stop_while_an_import_is_made_durable_waits_for_it) {
  auto id = import();
  hold(calls(call::sync_data, id.text()));
  awaited<sealed_image> sealed;
  disks->seal_import(id, sealed.answer());
  stop_while_held();
  BOOST_REQUIRE(sealed.is_there());
  BOOST_TEST(sealed.get().has_value());
  BOOST_TEST(std::filesystem::exists(file_of(id)));
}

BOOST_AUTO_TEST_SUITE_END()
