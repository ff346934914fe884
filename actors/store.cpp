#include "actors/store.hpp"

#include "actors/requests.hpp"

#include <caf/send.hpp>
#include <caf/typed_response_promise.hpp>

#include <algorithm>
#include <utility>
#include <vector>

namespace coppice {

namespace {

std::vector<std::byte> bytes_of(capnp::Data::Reader data) {
  const auto* begin = reinterpret_cast<const std::byte*>(data.begin());
  return {begin, begin + data.size()};
}

frame<proto::OverlaySealed> told(const storage::sealed_image& image) {
  return make_frame<proto::OverlaySealed>([&](auto root) {
    root.setSizeBytes(image.own_bytes);
    root.setUnchanged(image.is_unchanged);
    if (image.index) {
      auto clusters = image.index->count();
      root.setLogicalBytes(clusters.data * storage::cluster_bytes);
      root.setSharedBytes((clusters.data - clusters.own) * storage::cluster_bytes);
      auto index = root.initIndex();
      image.index->checkpoint().to(index.initCheckpoint());
      auto extents = image.index->encode();
      index.setExtents({reinterpret_cast<const capnp::byte*>(extents.data()), extents.size()});
    }
  });
}

} // namespace

template <class T>
storage::engine::answer<T> store_state::here(std::function<void(result<T>)> then) {
  auto weak = caf::actor_cast<caf::actor_addr>(self_);
  return [weak, box = answers_, then = std::move(then)](result<T> given) {
    {
      std::lock_guard lock{box->mutex};
      box->waiting.push_back(
          [then, given = std::move(given)]() mutable { then(std::move(given)); });
    }
    if (auto alive = caf::actor_cast<store_actor>(weak)) {
      caf::anon_send(alive, make_frame<proto::DisksAnswered>());
    }
  };
}

template <class Reply, class T>
storage::engine::answer<T> store_state::reply(caf::typed_response_promise<frame<Reply>> to,
                                              std::function<frame<Reply>(const T&)> told_as) {
  return here<T>([to, told_as = std::move(told_as)](result<T> done) mutable {
    if (done.has_error()) {
      to.deliver(to_error(done.error()));
    } else {
      to.deliver(told_as(*done));
    }
  });
}

void store_state::take_answers() {
  std::vector<std::function<void()>> taken;
  {
    std::lock_guard lock{answers_->mutex};
    taken.swap(answers_->waiting);
  }
  for (auto& answer : taken) {
    answer();
  }
}

caf::result<frame<proto::DiskSlot>> store_state::open_slot() {
  auto slot = parts_.disks->open_slot();
  if (slot.has_error()) {
    return to_error(slot.error());
  }
  parts_.sockets->put(slot->number, vmm::unique_fd{slot->client});
  auto opener = caf::actor_cast<caf::actor_addr>(self_->current_sender());
  auto& slots_of_opener = openers_[opener];
  if (slots_of_opener.empty()) {
    self_->monitor(opener);
  }
  slots_of_opener.insert(slot->number);
  opener_of_[slot->number] = opener;
  return make_frame<proto::DiskSlot>([&](auto root) { root.setSlot(slot->number); });
}

void store_state::close_slot(storage::engine::slot_number slot) {
  parts_.disks->close_slot(slot);
  parts_.sockets->take(slot); // of a VM that never came
  auto known = opener_of_.extract(slot);
  if (!known) {
    return;
  }
  auto opener = openers_.find(known.mapped());
  opener->second.erase(slot);
  if (opener->second.empty()) {
    self_->demonitor(opener->first);
    openers_.erase(opener);
  }
}

caf::result<frame<proto::OverlayAttached>>
store_state::attach(proto::AttachOverlay::Reader request) {
  auto overlay = uuid::from(request.getOverlay());
  if (!slots_.try_emplace(overlay, request.getSlot()).second) {
    return make_error(ec::conflict, "the overlay is there already");
  }
  auto promise = self_->make_response_promise<frame<proto::OverlayAttached>>();
  storage::engine::branch branch{request.getSlot(), overlay, uuid::from(request.getParent()),
                                 request.getOwnBytesMax()};
  parts_.disks->attach(branch, here<void>([this, promise, overlay](result<void> done) mutable {
                         if (done.has_error()) {
                           slots_.erase(overlay);
                           promise.deliver(to_error(done.error()));
                         } else {
                           promise.deliver(make_frame<proto::OverlayAttached>(
                               [](auto root) { root.setVirtualSizeBytes(limits::disk_bytes); }));
                         }
                       }));
  return promise;
}

caf::result<frame<proto::OverlaySealed>> store_state::seal(proto::SealOverlay::Reader request) {
  auto overlay = uuid::from(request.getOverlay());
  auto promise = self_->make_response_promise<frame<proto::OverlaySealed>>();
  if (!uuid::from(request.getParent())) {
    parts_.disks->seal_import(overlay,
                              reply<proto::OverlaySealed, storage::sealed_image>(promise, told));
    return promise;
  }
  const auto unchanged = request.getKeepUnchanged() ? storage::unchanged_disk::is_kept
                                                    : storage::unchanged_disk::is_parent;
  parts_.disks->seal(overlay,
                     here<storage::sealed_image>(
                         [this, promise, overlay](result<storage::sealed_image> done) mutable {
                           slots_.erase(overlay);
                           if (done.has_error()) {
                             promise.deliver(to_error(done.error()));
                           } else {
                             promise.deliver(told(*done));
                           }
                         }),
                     unchanged);
  return promise;
}

caf::result<frame<proto::OverlayDiscarded>>
store_state::discard(proto::DiscardOverlay::Reader request) {
  using discarded = storage::engine::discarded;
  auto overlay = uuid::from(request.getOverlay());
  auto slot = slots_.extract(overlay);
  if (slot && request.getCloseSlot()) {
    close_slot(slot.mapped());
  }
  auto promise = self_->make_response_promise<frame<proto::OverlayDiscarded>>();
  parts_.disks->discard(overlay, here<discarded>([promise](result<discarded> done) mutable {
                          if (done.has_error()) {
                            promise.deliver(to_error(done.error()));
                            return;
                          }
                          promise.deliver(make_frame<proto::OverlayDiscarded>([&](auto root) {
                            root.setTrouble(done->trouble);
                            root.setBeyondLimit(done->is_beyond_limit);
                          }));
                        }));
  return promise;
}

caf::result<frame<proto::BlobUpload>> store_state::begin_blob() {
  if (auto refused = parts_.reserve ? parts_.reserve->refusal() : std::nullopt) {
    return to_error(*refused);
  }
  auto promise = self_->make_response_promise<frame<proto::BlobUpload>>();
  parts_.disks->begin_blob(
      reply<proto::BlobUpload, std::uint64_t>(promise, [](const std::uint64_t& upload) {
        return make_frame<proto::BlobUpload>([&](auto root) { root.setUpload(upload); });
      }));
  return promise;
}

caf::result<frame<proto::Done>> store_state::append_blob(proto::AppendBlob::Reader request) {
  auto promise = self_->make_response_promise<frame<proto::Done>>();
  parts_.disks->append_blob(request.getUpload(), bytes_of(request.getData()),
                            here<void>([promise](result<void> done) mutable {
                              if (done.has_error()) {
                                promise.deliver(to_error(done.error()));
                              } else {
                                promise.deliver(make_frame<proto::Done>());
                              }
                            }));
  return promise;
}

caf::result<frame<proto::BlobStored>> store_state::finish_blob(proto::FinishBlob::Reader request) {
  auto promise = self_->make_response_promise<frame<proto::BlobStored>>();
  parts_.disks->finish_blob(
      request.getUpload(),
      reply<proto::BlobStored, storage::stored_blob>(promise, [](const auto& stored) {
        return make_frame<proto::BlobStored>([&](auto root) {
          root.setSha256({stored.digest.data(), stored.digest.size()});
          root.setSizeBytes(stored.size_bytes);
        });
      }));
  return promise;
}

caf::result<frame<proto::BlobChunk>> store_state::read_blob(proto::ReadBlob::Reader request) {
  storage::stored_blob::sha256 digest{};
  if (request.getSha256().size() != digest.size()) {
    return make_error(ec::invalid, "sha256: must be 32 bytes");
  }
  std::copy_n(request.getSha256().begin(), digest.size(), digest.begin());
  auto wanted = std::min<std::size_t>(request.getMaxBytes(), limits::transfer_chunk_bytes);
  auto promise = self_->make_response_promise<frame<proto::BlobChunk>>();
  parts_.disks->read_blob(
      digest, request.getOffset(), wanted,
      reply<proto::BlobChunk, std::vector<std::byte>>(promise, [](const auto& bytes) {
        return make_frame<proto::BlobChunk>([&](auto root) {
          root.setData({reinterpret_cast<const capnp::byte*>(bytes.data()), bytes.size()});
        });
      }));
  return promise;
}

store_actor::behavior_type store_state::make_behavior(store_parts parts) {
  parts_ = std::move(parts);
  // Whoever died before it knew of its slot cannot close it.
  self_->set_down_handler([this](const caf::down_msg& down) {
    if (auto opener = openers_.find(down.source); opener != openers_.end()) {
      for (auto slot : std::set{opener->second}) {
        close_slot(slot);
      }
    }
  });
  return {
      [this](const frame<proto::OpenDiskSlot>&) { return open_slot(); },
      [this](const frame<proto::CloseDiskSlot>& r) { close_slot(r.view()->getSlot()); },
      [this](const frame<proto::AttachOverlay>& r) {
        auto view = r.view();
        return attach(*view);
      },
      [this](const frame<proto::SealOverlay>& r) {
        auto view = r.view();
        return seal(*view);
      },
      [this](const frame<proto::DiscardOverlay>& r) {
        auto view = r.view();
        return discard(*view);
      },
      [this](const frame<proto::DisksAnswered>&) { take_answers(); },
      [this](const frame<proto::BeginBlob>&) { return begin_blob(); },
      [this](const frame<proto::AppendBlob>& r) {
        auto view = r.view();
        return append_blob(*view);
      },
      [this](const frame<proto::FinishBlob>& r) {
        auto view = r.view();
        return finish_blob(*view);
      },
      [this](const frame<proto::AbortBlob>& r) {
        auto view = r.view();
        parts_.disks->abort_blob(view->getUpload(), [](const result<void>&) {}); // nobody asks
      },
      [this](const frame<proto::ReadBlob>& r) {
        auto view = r.view();
        return read_blob(*view);
      },
  };
}

store_actor::behavior_type store(store_actor::stateful_pointer<store_state> self,
                                 store_parts parts) {
  return self->state.make_behavior(std::move(parts));
}

} // namespace coppice
