#include "tests/gateway/inside_actors.hpp"

#include "protocol/inspect.capnp.h"

namespace coppice::test {
namespace {

constexpr std::size_t download_piece_bytes = 100'000;
constexpr std::size_t listing_piece_entries = 100;

frame<proto::InspectOpen> copy_of(proto::InspectOpen::Reader request) {
  capnp::MallocMessageBuilder message;
  message.setRoot(request);
  return frame<proto::InspectOpen>{message};
}

caf::result<frame<proto::InspectSession>> inspect_open(inside_double& in,
                                                       proto::InspectOpen::Reader request) {
  auto image =
      find_image(in.image_table, request.getProject().cStr(), uuid::from(request.getImage()));
  if (image != in.image_table.end() && (request.getVerb() == proto::InspectVerb::GREP ||
                                        request.getVerb() == proto::InspectVerb::DIFF ||
                                        request.getVerb() == proto::InspectVerb::TEXT_DIFF)) {
    auto number = in.inspect_paths.size() + 1;
    in.inspect_paths[number] = "";
    in.inspect_orders[number] = copy_of(request);
    return make_frame<proto::InspectSession>([&](auto root) { root.setSession(number); });
  }
  std::string name = request.getPath().cStr();
  auto found = in.paths.find(name);
  if (image == in.image_table.end() || found == in.paths.end()) {
    return make_error(ec::not_found, name + ": no such path");
  }
  if (request.getVerb() != proto::InspectVerb::ARCHIVE &&
      found->second.is_directory != (request.getVerb() == proto::InspectVerb::LIST)) {
    return make_error(ec::wrong_type, name + ": of another kind");
  }
  auto number = in.inspect_paths.size() + 1;
  in.inspect_paths[number] = name;
  in.inspect_offsets[number] = request.getOffset();
  in.inspect_ends[number] =
      request.getOffset() + std::min<std::uint64_t>(request.getBytes(), UINT32_MAX);
  return make_frame<proto::InspectSession>([&](auto root) {
    root.setSession(number);
    root.setSizeBytes(found->second.announced_bytes.value_or(found->second.data.size()));
  });
}

frame<proto::InspectChunk> inspect_next(inside_double& in, std::uint64_t session) {
  if (in.inspect_orders.contains(session)) {
    auto order = in.inspect_orders.at(session).view();
    if (uuid::from(order->getImage()) == uuid::from(order->getOther())) {
      return make_frame<proto::InspectChunk>(); // only held
    }
    return in.prepared_chunk ? in.prepared_chunk(session) : make_frame<proto::InspectChunk>();
  }
  const auto& path = in.paths.at(in.inspect_paths.at(session));
  auto& offset = in.inspect_offsets.at(session);
  return make_frame<proto::InspectChunk>([&](auto root) {
    if (path.is_directory && offset < path.entries.size()) {
      auto count = std::min(listing_piece_entries, path.entries.size() - offset);
      auto entries = root.initEntries(static_cast<capnp::uint>(count));
      for (capnp::uint i = 0; i < count; ++i) {
        entries[i].setName(path.entries[offset + i]);
        entries[i].setMode(0100644);
        entries[i].setSizeBytes(2048);
        entries[i].setOwner("root");
        entries[i].setLinkCount(1);
      }
      offset += count;
    } else if (!path.is_directory && offset < in.inspect_ends.at(session) &&
               offset < path.data.size()) {
      // A byte as data, the rest of the piece in a stored file, if the test has made one.
      auto bytes = std::min<std::uint64_t>(
          download_piece_bytes,
          std::min<std::uint64_t>(path.data.size(), in.inspect_ends.at(session)) - offset);
      auto part = root.initParts(1)[0];
      if (path.stored) {
        part.setFileHi(path.stored->hi);
        part.setFileLo(path.stored->lo);
        part.setData(data_of(path.data.substr(offset, 1)));
        part.setOffset(offset + 1);
        part.setBytes(bytes - 1);
      } else {
        part.setData(data_of(path.data.substr(offset, bytes)));
      }
      offset += bytes;
    } else {
      root.setEnd();
      in.inspect_offsets.erase(session);
    }
  });
}

caf::result<frame<proto::Done>> delete_image(inside_double& in, proto::DeleteImage::Reader r) {
  auto found = find_image(in.image_table, r.getProject().cStr(), uuid::from(r.getImage()));
  if (found == in.image_table.end()) {
    return nothing();
  }
  if (!found->tags.empty() && !r.getWithTags()) {
    return make_error(ec::conflict,
                      "image " + found->id.text() + " has the tag " + found->tags.front());
  }
  in.deleted_images.push_back(found->id);
  in.image_table.erase(found);
  return make_frame<proto::Done>();
}

} // namespace

store_actor::behavior_type store_double(store_actor::pointer, inside_double* in) {
  return {
      [](const frame<proto::OpenDiskSlot>&) { return make_frame<proto::DiskSlot>(); },
      [](const frame<proto::CloseDiskSlot>&) {
        // nop
      },
      [](const frame<proto::AttachOverlay>&) { return make_frame<proto::OverlayAttached>(); },
      [](const frame<proto::SealOverlay>&) { return make_frame<proto::OverlaySealed>(); },
      [](const frame<proto::DiscardOverlay>&) { return make_frame<proto::OverlayDiscarded>(); },
      [](const frame<proto::DisksAnswered>&) {
        // nop
      },
      [in](const frame<proto::BeginBlob>&) {
        std::scoped_lock lock{in->mutex};
        auto number = in->uploads.size() + 1;
        in->uploads[number];
        return make_frame<proto::BlobUpload>([&](auto root) { root.setUpload(number); });
      },
      [in](const frame<proto::AppendBlob>& f) -> caf::result<frame<proto::Done>> {
        std::scoped_lock lock{in->mutex};
        if (in->store_error) {
          return make_error(*in->store_error, "uploads/1: No space left on device");
        }
        auto v = f.view();
        ++in->appends;
        in->uploads.at(v->getUpload()) += bytes_in(v->getData());
        return make_frame<proto::Done>();
      },
      [in](const frame<proto::FinishBlob>& f) {
        std::scoped_lock lock{in->mutex};
        const auto& bytes = in->uploads.at(f.view()->getUpload());
        return make_frame<proto::BlobStored>([&](auto root) {
          root.setSha256(data_of(sha256_of(bytes)));
          root.setSizeBytes(bytes.size());
        });
      },
      [in](const frame<proto::AbortBlob>&) {
        std::scoped_lock lock{in->mutex};
        ++in->aborted_uploads;
        in->asked.notify_all();
      },
      [](const frame<proto::ReadBlob>&) { return make_frame<proto::BlobChunk>(); },
  };
}

images_actor::behavior_type images_double(images_actor::pointer, inside_double* in) {
  return {
      [](const frame<proto::PinImage>&) { return make_frame<proto::ImageRow>(); },
      [](const frame<proto::UnpinImage>&) {},
      [in](const frame<proto::InspectOpen>& f) {
        std::scoped_lock lock{in->mutex};
        return inspect_open(*in, *f.view());
      },
      [in](const frame<proto::InspectNext>& f) {
        std::scoped_lock lock{in->mutex};
        return inspect_next(*in, f.view()->getSession());
      },
      [in](const frame<proto::InspectClose>& f) {
        std::scoped_lock lock{in->mutex};
        in->inspect_offsets.erase(f.view()->getSession());
        ++in->inspect_closes;
        in->asked.notify_all();
      },
      [in](const frame<proto::DeleteImage>& f) {
        std::scoped_lock lock{in->mutex};
        return delete_image(*in, *f.view());
      },
      [](const frame<proto::ImageIdle>&) {},
  };
}

} // namespace coppice::test
