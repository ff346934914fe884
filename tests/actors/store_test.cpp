#include "actors/store.hpp"
#include "tests/storage/disk_fixture.hpp"
#include "tests/storage/engine_calls.hpp"

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>

#include <boost/test/unit_test.hpp>

#include <string>

// The engine answers on threads of its own, so these run on a real actor system.

namespace {

using namespace coppice;
using namespace coppice::storage::test;

struct fixture {
  struct config : caf::actor_system_config {
    config() {
      add_message_types<caf::id_block::coppice>();
    }
  };

  fixture() {
    for (auto name : {"images", "blobs", "uploads"}) {
      std::filesystem::create_directory(state / name);
    }
    disks = start_engine(state / "images", options_in(state.path()));
    handle = system.spawn<caf::detached>(
        store, store_parts{disks, std::make_shared<disk_sockets>(), nullptr});
  }
  ~fixture() {
    self->send_exit(handle, caf::exit_reason::user_shutdown);
    self->wait_for(handle);
    disks->stop();
  }

  /// The answer, or what was wrong.
  template <class Reply, class Request>
  result<frame<Reply>> ask(frame<Request> request) {
    result<frame<Reply>> out = coppice::fail(storage::ec::none, "");
    self->request(handle, caf::infinite, std::move(request))
        .receive(
            [&](const frame<Reply>& given) { out = given; },
            [&](const caf::error& e) { out = fail(storage::ec::none, self->system().render(e)); });
    return out;
  }
  std::uint64_t begin() {
    auto begun = ask<proto::BlobUpload>(make_frame<proto::BeginBlob>());
    BOOST_REQUIRE(begun);
    return begun->view()->getUpload();
  }
  result<frame<proto::Done>> append(std::uint64_t upload, const std::string& text) {
    return ask<proto::Done>(make_frame<proto::AppendBlob>([&](auto root) {
      root.setUpload(upload);
      root.setData({reinterpret_cast<const capnp::byte*>(text.data()), text.size()});
    }));
  }
  result<frame<proto::BlobStored>> finish(std::uint64_t upload) {
    return ask<proto::BlobStored>(
        make_frame<proto::FinishBlob>([&](auto root) { root.setUpload(upload); }));
  }

  scratch state;
  config settings;
  caf::actor_system system{settings};
  caf::scoped_actor self{system};
  std::shared_ptr<storage::engine> disks;
  store_actor handle;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(store_suite, fixture)

BOOST_AUTO_TEST_CASE(an_upload_is_stored_and_read_back) {
  auto upload = begin();
  BOOST_REQUIRE(append(upload, "ab"));
  BOOST_REQUIRE(append(upload, "c"));
  auto stored = finish(upload);
  BOOST_REQUIRE(stored);
  auto view = stored->view();
  BOOST_TEST(view->getSizeBytes() == 3u);
  auto chunk = ask<proto::BlobChunk>(make_frame<proto::ReadBlob>([&](auto root) {
    root.setSha256(view->getSha256());
    root.setOffset(1);
    root.setMaxBytes(10);
  }));
  BOOST_REQUIRE(chunk);
  auto data = chunk->view()->getData();
  BOOST_TEST(std::string(data.asChars().begin(), data.size()) == "bc");
}

BOOST_AUTO_TEST_CASE(what_is_wrong_with_an_upload_is_told) {
  BOOST_REQUIRE(!append(77, "x"));
  BOOST_TEST(append(77, "x").error().text.find("no upload 77") != std::string::npos);
  BOOST_REQUIRE(!finish(77));
  auto upload = begin();
  self->send(handle, make_frame<proto::AbortBlob>([&](auto root) { root.setUpload(upload); }));
  auto late = append(upload, "x");
  BOOST_REQUIRE(!late);
  BOOST_TEST(late.error().text.find("no upload") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(an_import_is_sealed_once_and_its_index_is_known) {
  disk_fixture elsewhere;
  auto made = uuid::random();
  elsewhere.base(made, {{5, 1}});
  auto image = uuid::random();
  std::filesystem::rename(elsewhere.file_of(made), state / "images" / (image.text() + ".overlay"));
  auto request = make_frame<proto::SealOverlay>([&](auto root) { image.to(root.initOverlay()); });
  auto sealed = ask<proto::OverlaySealed>(request);
  BOOST_REQUIRE_MESSAGE(sealed, (sealed ? "" : sealed.error().text));
  BOOST_TEST(sealed->view()->getSizeBytes() > 0u);
  BOOST_TEST(sealed->view()->getIndex().getExtents().size() > 0u);
  BOOST_TEST(disks->indexes().get(image).has_value());
  auto again = ask<proto::OverlaySealed>(request);
  BOOST_REQUIRE(!again);
  BOOST_TEST(again.error().text.find(".overlay") != std::string::npos);
  BOOST_REQUIRE(ask<proto::OverlayDiscarded>(
      make_frame<proto::DiscardOverlay>([&](auto root) { image.to(root.initOverlay()); })));
  BOOST_TEST(std::filesystem::is_empty(state / "images"));
}

BOOST_AUTO_TEST_SUITE_END()
