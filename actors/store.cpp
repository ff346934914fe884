#include "actors/store.hpp"

#include "actors/requests.hpp"

#include <algorithm>

namespace coppice {

namespace {

std::span<const std::byte> bytes_of(capnp::Data::Reader data) {
  return {reinterpret_cast<const std::byte*>(data.begin()), data.size()};
}

caf::result<frame<proto::OverlaySealed>> sealed(const result<storage::store::sealed>& r) {
  if (r.has_error()) {
    return to_error(r.error());
  }
  return make_frame<proto::OverlaySealed>([&](auto root) { root.setSizeBytes(r->size_bytes); });
}

caf::result<frame<proto::BlobChunk>> read_blob(storage::store& files,
                                               proto::ReadBlob::Reader request) {
  storage::store::sha256 digest{};
  if (request.getSha256().size() != digest.size()) {
    return make_error(ec::invalid, "sha256: must be 32 bytes");
  }
  std::copy_n(request.getSha256().begin(), digest.size(), digest.begin());
  auto wanted = std::min<std::size_t>(request.getMaxBytes(), limits::transfer_chunk_bytes);
  auto r = files.read_blob(digest, request.getOffset(), wanted);
  if (r.has_error()) {
    return to_error(r.error());
  }
  return make_frame<proto::BlobChunk>([&](auto root) {
    root.setData({reinterpret_cast<const capnp::byte*>(r->data()), r->size()});
  });
}

} // namespace

store_actor::behavior_type store(store_actor::stateful_pointer<store_state> self,
                                 std::shared_ptr<storage::store> files) {
  self->state.files = std::move(files);
  return {
      [self](const frame<proto::AttachOverlay>& r) -> caf::result<frame<proto::OverlayAttached>> {
        auto view = r.view();
        auto made = self->state.files->create_overlay(uuid::from(view->getOverlay()),
                                                      uuid::from(view->getParent()));
        if (made.has_error()) {
          return to_error(made.error());
        }
        return make_frame<proto::OverlayAttached>(
            [](auto root) { root.setVirtualSizeBytes(limits::disk_bytes); });
      },
      [self](const frame<proto::SealOverlay>& r) {
        auto view = r.view();
        return sealed(
            self->state.files->seal(uuid::from(view->getOverlay()), uuid::from(view->getParent())));
      },
      [self](const frame<proto::DiscardOverlay>& r) {
        auto view = r.view();
        return answer(self->state.files->discard(uuid::from(view->getOverlay())));
      },
      [self](const frame<proto::BeginBlob>&) -> caf::result<frame<proto::BlobUpload>> {
        auto begun = self->state.files->begin_blob();
        if (begun.has_error()) {
          return to_error(begun.error());
        }
        return make_frame<proto::BlobUpload>([&](auto root) { root.setUpload(*begun); });
      },
      [self](const frame<proto::AppendBlob>& r) {
        auto view = r.view();
        return answer(self->state.files->append_blob(view->getUpload(), bytes_of(view->getData())));
      },
      [self](const frame<proto::FinishBlob>& r) -> caf::result<frame<proto::BlobStored>> {
        auto view = r.view();
        auto stored = self->state.files->finish_blob(view->getUpload());
        if (stored.has_error()) {
          return to_error(stored.error());
        }
        return make_frame<proto::BlobStored>([&](auto root) {
          root.setSha256({stored->digest.data(), stored->digest.size()});
          root.setSizeBytes(stored->size_bytes);
        });
      },
      [self](const frame<proto::AbortBlob>& r) {
        auto view = r.view();
        self->state.files->abort_blob(view->getUpload());
      },
      [self](const frame<proto::ReadBlob>& r) {
        auto view = r.view();
        return read_blob(*self->state.files, *view);
      },
  };
}

} // namespace coppice
