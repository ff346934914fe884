#include "tests/gateway/inside_double.hpp"

#include "protocol/inspect.capnp.h"

#include <caf/typed_event_based_actor.hpp>

#include <openssl/sha.h>

#include <algorithm>

namespace coppice::test {
namespace {

constexpr std::size_t download_piece_bytes = 100'000;
constexpr std::size_t listing_piece_entries = 100;

std::string sha256_of(std::string_view bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

std::string text(capnp::Data::Reader data) {
  return {reinterpret_cast<const char*>(data.begin()), data.size()};
}

capnp::Data::Reader bytes_of(const std::string& bytes) {
  return {reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()};
}

frame<proto::ImageRow> row_of(const inside_double::image& image, const std::string& tag) {
  return make_frame<proto::ImageRow>([&](auto root) {
    auto record = root.initImage();
    image.id.to(record.initId());
    record.setProject(image.project);
    image.operation.to(record.initOperation());
    record.setCreatedAtUnixNs(1'704'110'400'123'456'000);
    record.setSizeBytes(28672);
    record.setLogicalBytes(image.logical_bytes);
    record.setSharedBytes(image.logical_bytes / 2);
    root.setTag(tag);
  });
}

frame<proto::FileRecord> record_of(const inside_double::file& file) {
  return make_frame<proto::FileRecord>([&](auto root) {
    file.id.to(root.initId());
    root.setProject(file.project);
    root.setSha256(bytes_of(file.sha256));
    root.setSizeBytes(file.size_bytes);
    root.setCreatedAtUnixNs(1'704'110'400'000'000'000);
    root.setUpdatedAtUnixNs(1'704'110'400'000'000'000);
  });
}

caf::error nothing() {
  return make_error(ec::not_found, "no such thing");
}

template <class Table>
auto find_image(Table& table, const std::string& project, const uuid& id) {
  return std::find_if(table.begin(), table.end(), [&](const auto& candidate) {
    return candidate.id == id && candidate.project == project;
  });
}

// -- reading -------------------------------------------------------------------------------------

caf::result<frame<proto::ImageRow>> resolve_tag(inside_double& in, const std::string& project,
                                                const std::string& tag) {
  for (const auto& image : in.image_table) {
    if (image.project == project && std::count(image.tags.begin(), image.tags.end(), tag) > 0) {
      return row_of(image, tag);
    }
  }
  return nothing();
}

frame<proto::ImagePage> list_images(inside_double& in, proto::ListImages::Reader request) {
  std::vector<std::pair<const inside_double::image*, std::string>> rows;
  for (const auto& image : in.image_table) {
    for (const auto& tag : image.tags) {
      rows.emplace_back(&image, tag);
    }
    if (image.tags.empty() && !request.getTaggedOnly()) {
      rows.emplace_back(&image, "");
    }
  }
  return make_frame<proto::ImagePage>([&](auto root) {
    auto out = root.initRows(static_cast<capnp::uint>(rows.size()));
    for (capnp::uint i = 0; i < out.size(); ++i) {
      out.setWithCaveats(i, *row_of(*rows[i].first, rows[i].second).view());
    }
  });
}

frame<proto::OperationPage> list_operations(inside_double& in) {
  return make_frame<proto::OperationPage>([&](auto root) {
    auto rows = root.initRows(static_cast<capnp::uint>(in.operation_table.size()));
    capnp::uint i = 0;
    for (const auto& [id, record] : in.operation_table) {
      rows.setWithCaveats(i++, *record.view());
    }
  });
}

frame<proto::EventPage> list_events(inside_double& in, proto::ListEvents::Reader request) {
  ++in.event_pages;
  const auto& all = in.event_table[uuid::from(request.getOperation())];
  auto first = std::min<std::size_t>(request.getFirstId(), all.size());
  auto last = first;
  for (std::size_t bytes = 0; last < all.size() && bytes < request.getMaxBytes(); ++last) {
    bytes += all[last].words().size() * sizeof(capnp::word);
  }
  return make_frame<proto::EventPage>([&](auto root) {
    auto out = root.initEvents(static_cast<capnp::uint>(last - first));
    for (capnp::uint i = 0; i < out.size(); ++i) {
      out.setWithCaveats(i, *all[first + i].view());
    }
  });
}

caf::result<frame<proto::FileRecord>> get_file(inside_double& in, proto::GetFile::Reader request) {
  for (const auto& file : in.file_table) {
    if (file.project == request.getProject().cStr() &&
        (file.id == uuid::from(request.getId()) || file.sha256 == text(request.getSha256()))) {
      return record_of(file);
    }
  }
  return nothing();
}

catalog_reader_actor::behavior_type reader(catalog_reader_actor::pointer, inside_double* in) {
  return {
      [in](const frame<proto::FindToken>& f) -> caf::result<frame<proto::TokenRecord>> {
        std::scoped_lock lock{in->mutex};
        auto found = in->tokens.find(text(f.view()->getSha256()));
        if (found == in->tokens.end()) {
          return make_error(ec::unauthorised, "unknown or expired token");
        }
        return found->second;
      },
      [in](const frame<proto::GetImage>& f) -> caf::result<frame<proto::ImageRow>> {
        std::scoped_lock lock{in->mutex};
        auto v = f.view();
        auto found = find_image(in->image_table, v->getProject().cStr(), uuid::from(v->getId()));
        if (found == in->image_table.end()) {
          return nothing();
        }
        return row_of(*found, found->tags.empty() ? "" : found->tags.front());
      },
      [in](const frame<proto::ResolveTag>& f) -> caf::result<frame<proto::ImageRow>> {
        std::scoped_lock lock{in->mutex};
        auto v = f.view();
        return resolve_tag(*in, v->getProject().cStr(), v->getTag().cStr());
      },
      [in](const frame<proto::ListImages>& f) {
        std::scoped_lock lock{in->mutex};
        in->image_listings.push_back(f);
        return list_images(*in, *f.view());
      },
      [in](const frame<proto::GetOperation>& f) -> caf::result<frame<proto::OperationRecord>> {
        std::scoped_lock lock{in->mutex};
        auto v = f.view();
        auto found = in->operation_table.find(uuid::from(v->getId()));
        if (found == in->operation_table.end() ||
            found->second.view()->getProject() != v->getProject()) {
          return nothing();
        }
        return found->second;
      },
      [in](const frame<proto::ListOperations>& f) {
        std::scoped_lock lock{in->mutex};
        in->operation_listings.push_back(f);
        return list_operations(*in);
      },
      [in](const frame<proto::ListEvents>& f) {
        std::scoped_lock lock{in->mutex};
        return list_events(*in, *f.view());
      },
      [in](const frame<proto::GetFile>& f) {
        std::scoped_lock lock{in->mutex};
        return get_file(*in, *f.view());
      },
      [in](const frame<proto::ListFiles>&) {
        std::scoped_lock lock{in->mutex};
        return make_frame<proto::FilePage>([&](auto root) {
          auto rows = root.initRows(static_cast<capnp::uint>(in->file_table.size()));
          for (capnp::uint i = 0; i < rows.size(); ++i) {
            rows.setWithCaveats(i, *record_of(in->file_table[i]).view());
          }
        });
      },
      [](const frame<proto::ListUnfinished>&) { return make_frame<proto::UnfinishedPage>(); },
      [](const frame<proto::FindBySource>&) -> caf::result<frame<proto::ImageRow>> {
        return nothing();
      },
      [](const frame<proto::CountActive>&) {
        return make_frame<proto::ActiveCounts>([](auto root) {
          root.setInstances(3);
          root.setImports(1);
        });
      },
  };
}

// -- writing -------------------------------------------------------------------------------------

caf::result<frame<proto::ImageRow>> set_tag(inside_double& in, proto::SetTag::Reader request) {
  std::string tag = request.getTag().cStr();
  auto found =
      find_image(in.image_table, request.getProject().cStr(), uuid::from(request.getImage()));
  if (found == in.image_table.end()) {
    return nothing();
  }
  found->tags.push_back(tag);
  return row_of(*found, tag);
}

catalog_writer_actor::behavior_type writer(catalog_writer_actor::pointer, inside_double* in) {
  return {
      [](const frame<proto::PutOperation>&) { return make_frame<proto::Done>(); },
      [](const frame<proto::AppendEvents>&) { return make_frame<proto::Done>(); },
      [](const frame<proto::FinishOperation>&) { return make_frame<proto::Done>(); },
      [in](const frame<proto::SetTag>& f) {
        std::scoped_lock lock{in->mutex};
        return set_tag(*in, *f.view());
      },
      [in](const frame<proto::RemoveTag>& f) -> caf::result<frame<proto::Done>> {
        std::scoped_lock lock{in->mutex};
        auto v = f.view();
        std::string tag = v->getTag().cStr();
        auto found = find_image(in->image_table, v->getProject().cStr(), uuid::from(v->getImage()));
        if (found == in->image_table.end() ||
            (!tag.empty() && std::count(found->tags.begin(), found->tags.end(), tag) == 0)) {
          return nothing();
        }
        in->removed_tags.push_back(tag);
        return make_frame<proto::Done>();
      },
      [](const frame<proto::DeleteImage>&) { return make_frame<proto::ImageDeleted>(); },
      [in](const frame<proto::PutFile>& f) {
        std::scoped_lock lock{in->mutex};
        auto v = f.view();
        auto record = v->getRecord();
        inside_double::file file{uuid::from(record.getId()), record.getProject().cStr(),
                                 text(record.getSha256()), record.getSizeBytes()};
        for (const auto& known : in->file_table) {
          if (known.sha256 == file.sha256 && known.project == file.project) {
            return record_of(known);
          }
        }
        in->file_table.push_back(file);
        return record_of(file);
      },
      [](const frame<proto::TrimEvents>&) { return make_frame<proto::EventsTrimmed>(); },
      [](const frame<proto::Tick>&) {},
  };
}

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
        in->uploads.at(v->getUpload()) += text(v->getData());
        return make_frame<proto::Done>();
      },
      [in](const frame<proto::FinishBlob>& f) {
        std::scoped_lock lock{in->mutex};
        const auto& bytes = in->uploads.at(f.view()->getUpload());
        return make_frame<proto::BlobStored>([&](auto root) {
          root.setSha256(bytes_of(sha256_of(bytes)));
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

// -- images --------------------------------------------------------------------------------------

caf::result<frame<proto::InspectSession>> inspect_open(inside_double& in,
                                                       proto::InspectOpen::Reader request) {
  auto image =
      find_image(in.image_table, request.getProject().cStr(), uuid::from(request.getImage()));
  std::string name = request.getPath().cStr();
  auto found = in.paths.find(name);
  if (image == in.image_table.end() || found == in.paths.end()) {
    return make_error(ec::not_found, name + ": no such path");
  }
  if (found->second.is_directory != (request.getVerb() == proto::InspectVerb::LIST)) {
    return make_error(ec::wrong_type, name + ": of another kind");
  }
  auto number = in.inspect_paths.size() + 1;
  in.inspect_paths[number] = name;
  in.inspect_offsets[number] = 0;
  return make_frame<proto::InspectSession>([&](auto root) {
    root.setSession(number);
    root.setSizeBytes(found->second.announced_bytes.value_or(found->second.data.size()));
  });
}

frame<proto::InspectChunk> inspect_next(inside_double& in, std::uint64_t session) {
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
    } else if (!path.is_directory && offset < path.data.size()) {
      auto piece = path.data.substr(offset, download_piece_bytes);
      root.setData(bytes_of(piece));
      offset += piece.size();
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

// -- operations ----------------------------------------------------------------------------------

frame<proto::OperationRecord> start_operation(inside_double& in, proto::StartOperation::Reader r) {
  auto id = uuid::random();
  auto record = make_frame<proto::OperationRecord>([&](auto root) {
    id.to(root.initId());
    root.setProject(r.getProject());
    root.setCreatedAtUnixNs(1'704'110'400'000'000'000);
    if (r.getRequest().isInstance()) {
      root.getRequest().setInstance(r.getRequest().getInstance());
    } else {
      root.setKind(proto::OperationKind::IMAGE_IMPORT);
      root.getRequest().setImport(r.getRequest().getImport());
    }
  });
  in.operation_table[id] = record;
  return record;
}

caf::result<frame<proto::OperationRecord>> cancel_operation(inside_double& in,
                                                            proto::CancelOperation::Reader r) {
  auto found = in.operation_table.find(uuid::from(r.getId()));
  if (found == in.operation_table.end() || found->second.view()->getProject() != r.getProject()) {
    return nothing();
  }
  if (found->second.view()->getStatus() >= proto::OperationStatus::SUCCESS) {
    return make_error(ec::conflict, "the operation has ended");
  }
  capnp::MallocMessageBuilder message;
  message.setRoot(*found->second.view());
  message.getRoot<proto::OperationRecord>().setStatus(proto::OperationStatus::CANCELLED);
  return frame<proto::OperationRecord>{message};
}

operations_actor::behavior_type operations_double(operations_actor::pointer self,
                                                  inside_double* in) {
  return {
      [=](const frame<proto::StartOperation>& f) -> caf::result<frame<proto::OperationRecord>> {
        std::scoped_lock lock{in->mutex};
        in->started.push_back(f);
        if (in->start_error) {
          return make_error(*in->start_error, "too many operations wait");
        }
        if (in->is_silent) {
          in->unanswered.push_back(self->make_response_promise<frame<proto::OperationRecord>>());
          in->asked.notify_all();
          return in->unanswered.back();
        }
        return start_operation(*in, *f.view());
      },
      [in](const frame<proto::CancelOperation>& f) {
        std::scoped_lock lock{in->mutex};
        return cancel_operation(*in, *f.view());
      },
      [in](const frame<proto::FlushOperation>&) {
        std::scoped_lock lock{in->mutex};
        ++in->flushes;
        return make_frame<proto::Done>();
      },
  };
}

scheduler_actor::behavior_type scheduler_double(scheduler_actor::pointer, inside_double* in) {
  return {
      [](const frame<proto::AcquireSlot>&) { return make_frame<proto::SlotGranted>(); },
      [](const frame<proto::ReleaseSlot>&) {},
      [in](const frame<proto::GetQueuePlace>& f) {
        std::scoped_lock lock{in->mutex};
        auto found = in->queue_places.find(uuid::from(f.view()->getOperation()));
        return make_frame<proto::QueuePlace>([&](auto root) {
          if (found != in->queue_places.end()) {
            root.setWaiting(true);
            root.setPosition(found->second);
            root.setWaitedUs(2'500'000);
          }
        });
      },
      [](const frame<proto::SlotsReady>&) {},
  };
}

} // namespace

inside_double::actor_config::actor_config() {
  add_message_types<caf::id_block::coppice>();
  set("scheduler.policy", caf::atom("sharing"));
  set("scheduler.max-threads", std::size_t{2});
}

inside_double::inside_double() {
  catalog = system.spawn(reader, this);
  catalog_writer = system.spawn(writer, this);
  store = system.spawn(store_double, this);
  images = system.spawn(images_double, this);
  operations = system.spawn(operations_double, this);
  scheduler = system.spawn(scheduler_double, this);
  add_token("secret", "default");
}

inside_double::~inside_double() {
  locked([this] { unanswered.clear(); });
}

void inside_double::add_token(const std::string& token, const std::string& project, bool may_spawn,
                              bool may_list, bool may_delete_image) {
  auto record = make_frame<proto::TokenRecord>([&](auto root) {
    uuid::random().to(root.initId());
    root.setProject(project);
    root.setMaySpawn(may_spawn);
    root.setMayList(may_list);
    root.setMayDeleteImage(may_delete_image);
  });
  std::scoped_lock lock{mutex};
  tokens[sha256_of(token)] = record;
}

uuid inside_double::add_image(const std::string& project, std::vector<std::string> tags) {
  std::scoped_lock lock{mutex};
  image_table.push_back({uuid::random(), project, std::move(tags), uuid::random()});
  return image_table.back().id;
}

uuid inside_double::add_operation(
    const std::string& project, const std::function<void(proto::OperationRecord::Builder)>& fill) {
  auto id = uuid::random();
  auto record = make_frame<proto::OperationRecord>([&](auto root) {
    id.to(root.initId());
    root.setProject(project);
    root.setCreatedAtUnixNs(1'704'110'400'000'000'000);
    fill(root);
  });
  std::scoped_lock lock{mutex};
  operation_table[id] = record;
  return id;
}

void inside_double::add_event(const uuid& operation,
                              const std::function<void(proto::Event::Builder)>& fill) {
  std::scoped_lock lock{mutex};
  auto& events = event_table[operation];
  events.push_back(make_frame<proto::Event>([&](auto root) {
    root.setId(events.size());
    root.setSpid(1);
    fill(root);
  }));
}

} // namespace coppice::test
