#include "actors/inspect_session.hpp"

#include "actors/inspect_chunk.hpp"
#include "actors/requests.hpp"
#include "storage/error.hpp"
#include "storage/inspector_diff.hpp"

#include <caf/send.hpp>
#include <kj/exception.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

namespace coppice {

namespace {

ec code_of(proto::InspectAnswer::Reason reason) {
  switch (reason) {
  case proto::InspectAnswer::Reason::NOT_FOUND:
    return ec::not_found;
  case proto::InspectAnswer::Reason::WRONG_TYPE:
    return ec::wrong_type;
  case proto::InspectAnswer::Reason::DAMAGED:
    return ec::damaged;
  case proto::InspectAnswer::Reason::INVALID:
    return ec::invalid;
  case proto::InspectAnswer::Reason::TOO_LARGE:
    return ec::too_large;
  }
  return ec::damaged;
}

/// What is wrong with the worker, as its client sees it.
caf::error worker_error(const failure& f) {
  const bool is_at_fault = f.code == storage::ec::gone || f.code == storage::ec::damaged;
  return make_error(is_at_fault ? ec::damaged : ec::unavailable, f.text);
}

/// A frame has 2 MiB; disks that differ in more places are compared by reading.
constexpr std::size_t changes_max = (1u << 20) / sizeof(storage::cluster_run);

/// Where two disks have their clusters in different places.
storage::disk_changes changes_between(const storage::block_index& a,
                                      const storage::block_index& b) {
  std::vector<storage::cluster_run> out;
  const auto end = std::max(a.end(), b.end());
  for (storage::cluster_number at = 0; at < end;) {
    auto in_a = a.find(at, end - at);
    auto in_b = b.find(at, in_a.count);
    const bool is_same =
        (!in_a.file && !in_b.file) || (in_a.file && in_b.file && *in_a.file == *in_b.file &&
                                       in_a.file_cluster == in_b.file_cluster);
    if (!is_same && !out.empty() && out.back().first + out.back().count == at) {
      out.back().count += in_b.count;
    } else if (!is_same) {
      if (out.size() == changes_max) {
        return std::nullopt;
      }
      out.push_back({at, in_b.count});
    }
    at += in_b.count;
  }
  return out;
}

frame<proto::InspectOrder> work_of(proto::InspectOpen::Reader request,
                                   const storage::disk_changes& changed) {
  return make_frame<proto::InspectOrder>([&](auto root) {
    auto work = root.initWork();
    work.setVerb(request.getVerb());
    work.setPath(request.getPath());
    work.setGrep(request.getGrep());
    work.setOffset(request.getOffset());
    work.setBytes(request.getBytes());
    if (changed) {
      work.setHasChanged(true);
      auto runs = work.initChanged(static_cast<capnp::uint>(changed->size()));
      for (capnp::uint i = 0; i < runs.size(); ++i) {
        runs[i].setFirst((*changed)[i].first);
        runs[i].setCount((*changed)[i].count);
      }
    }
  });
}

} // namespace

inspect_session_state::~inspect_session_state() {
  worker_.reset();
  release_disks();
}

void inspect_session_state::release_disks() {
  for (const auto& d : std::exchange(disks_, {})) {
    if (d.slot != 0) {
      caf::anon_send(parts_->store, make_frame<proto::DiscardOverlay>(
                                        [&](auto r) { d.view.to(r.initOverlay()); }));
      caf::anon_send(parts_->store,
                     make_frame<proto::CloseDiskSlot>([&](auto r) { r.setSlot(d.slot); }));
    }
  }
}

/// The process is in doubt: this actor ends with what it says last.
template <class T>
T inspect_session_state::quit_with(T last) {
  self_->quit();
  return last;
}

caf::error inspect_session_state::broken_protocol() {
  return quit_with(make_error(ec::damaged, "the reader of the image broke its protocol"));
}

// -- beginning -----------------------------------------------------------------------------------

caf::result<frame<proto::InspectSession>>
inspect_session_state::open(const frame<proto::InspectOpen>& request) {
  auto promise = self_->make_response_promise<frame<proto::InspectSession>>();
  ++asked_;
  if (worker_) {
    begin(promise, request);
  } else {
    prepare(promise, request);
    check_idleness();
  }
  return promise;
}

void inspect_session_state::prepare(session_promise promise,
                                    const frame<proto::InspectOpen>& request) {
  disks_.resize(1);
  disks_.front().image = image_;
  if (auto other = uuid::from(request.view()->getOther())) {
    disks_.emplace_back();
    disks_.back().image = other;
  }
  open_slot(0, std::move(promise), request);
}

void inspect_session_state::open_slot(std::size_t number, session_promise promise,
                                      const frame<proto::InspectOpen>& request) {
  if (number == disks_.size()) {
    if (auto started = start_worker(); started.has_error()) {
      promise.deliver(quit_with(make_error(ec::unavailable, started.error().text)));
    } else {
      begin(std::move(promise), request);
    }
    return;
  }
  self_->request(parts_->store, caf::infinite, make_frame<proto::OpenDiskSlot>())
      .then(
          [this, number, promise, request](const frame<proto::DiskSlot>& opened) {
            disks_[number].slot = opened.view()->getSlot();
            attach(number, promise, request);
          },
          [this, promise](const caf::error& e) mutable { promise.deliver(quit_with(e)); });
}

void inspect_session_state::attach(std::size_t number, session_promise promise,
                                   const frame<proto::InspectOpen>& request) {
  const auto& d = disks_[number];
  self_
      ->request(parts_->store, caf::infinite, make_frame<proto::AttachOverlay>([&](auto r) {
                  d.view.to(r.initOverlay());
                  d.image.to(r.initParent());
                  r.setSlot(d.slot);
                  r.setOwnBytesMax(0); // to read, not to write
                }))
      .then([this, number, promise, request](
                const frame<proto::OverlayAttached>&) { open_slot(number + 1, promise, request); },
            [this, promise](const caf::error& e) mutable {
              // The catalog has it, the store has not.
              promise.deliver(quit_with(coppice::code_of(e) == ec::not_found
                                            ? make_error(ec::gone, "the image's data is gone")
                                            : e));
            });
}

result<void> inspect_session_state::start_worker() {
  std::vector<vmm::unique_fd> sockets;
  std::transform(disks_.begin(), disks_.end(), std::back_inserter(sockets),
                 [&](const disk& d) { return parts_->sockets->take(d.slot); });
  auto started = parts_->start_worker(std::move(sockets));
  if (started.has_error()) {
    return started.error();
  }
  worker_ = std::move(*started);
  has_answered_ = false;
  return {};
}

void inspect_session_state::begin(session_promise promise,
                                  const frame<proto::InspectOpen>& request) {
  const bool was_good = has_answered_;
  auto opened = guarded([&]() { return ask_worker(request); });
  if (opened) {
    promise.deliver(std::move(*opened));
  } else if (!worker_ && was_good) {
    // It died while nobody needed it: no fault of this session.
    release_disks();
    prepare(std::move(promise), request);
  } else {
    promise.deliver(std::move(opened.error()));
  }
}

caf::expected<frame<proto::InspectSession>>
inspect_session_state::ask_worker(const frame<proto::InspectOpen>& request) {
  auto view = request.view();
  session_ = view->getSession();
  places_.reset();
  silent_since_.reset();
  is_given_ = false;
  storage::disk_changes changed;
  if (view->getVerb() == proto::InspectVerb::DIFF) {
    auto older = parts_->index_of(image_);
    auto newer = parts_->index_of(uuid::from(view->getOther()));
    if (older && newer) { // else all is read
      changed = changes_between(**older, **newer);
    }
  }
  auto answer = worker_->exchange(work_of(*view, changed));
  if (answer.has_error()) {
    if (answer.error().code == storage::ec::gone && has_answered_) {
      worker_.reset();
      has_answered_ = false;
      return worker_error(answer.error());
    }
    return quit_with(worker_error(answer.error()));
  }
  has_answered_ = true;
  auto said = answer->view();
  if (said->isFailed()) {
    return failed(*answer);
  }
  if (!said->isOpened()) {
    return broken_protocol();
  }
  if (auto found = find_places(*view, said->getOpened()); found.has_error()) {
    return quit_with(worker_error(found.error()));
  }
  const auto number = session_;
  if (said->getLast()) {
    end_session();
  }
  return make_frame<proto::InspectSession>([&](auto root) {
    root.setSession(number);
    root.setSizeBytes(said->getOpened());
  });
}

result<void> inspect_session_state::find_places(proto::InspectOpen::Reader request,
                                                std::uint64_t size_bytes) {
  std::optional<std::uint64_t> bytes;
  if (request.getVerb() == proto::InspectVerb::DOWNLOAD) {
    bytes = std::min(size_bytes - std::min(size_bytes, request.getOffset()), request.getBytes());
  } else if (request.getVerb() != proto::InspectVerb::ARCHIVE) {
    return {};
  }
  auto index = parts_->index_of(image_);
  if (index.has_error()) {
    return index.error();
  }
  places_ = std::make_unique<image_places>(std::move(*index), bytes);
  is_told_ = false;
  return {};
}

// -- going on ------------------------------------------------------------------------------------

caf::result<frame<proto::InspectChunk>>
inspect_session_state::read(proto::InspectNext::Reader request) {
  ++asked_;
  if (session_ == 0 || session_ != request.getSession() || !worker_) {
    return make_error(ec::gone, "the reading session has ended");
  }
  if (places_ && !places_->empty()) {
    is_given_ = true;
    return places_->take();
  }
  if (places_ && is_told_) {
    // Only now: the files had to stay until the last of them was sent.
    end_session();
    return make_frame<proto::InspectChunk>([](auto root) {
      root.setEnd();
      root.setLast(true);
    });
  }
  return ask_more(request.getContentBytesMax());
}

caf::result<frame<proto::InspectChunk>>
inspect_session_state::ask_more(std::uint64_t content_bytes_max) {
  auto answer = worker_->exchange(make_frame<proto::InspectOrder>(
      [&](auto root) { root.initMore().setContentBytesMax(content_bytes_max); }));
  if (answer.has_error()) {
    return quit_with(worker_error(answer.error()));
  }
  auto said = answer->view();
  if (said->isFailed()) {
    return failed(*answer);
  }
  const bool is_places = said->isParts() && places_;
  auto chunk = is_places ? std::nullopt : chunk_of(*answer);
  if (is_places) {
    auto added = added_places(*said);
    if (added.has_error()) {
      return quit_with(worker_error(added.error()));
    }
    chunk = std::move(*added);
    is_given_ = true;
  }
  if (!chunk) {
    return broken_protocol();
  }
  if (is_silent_for_long(*chunk->view())) {
    return quit_with(make_error(ec::damaged, "the reader of the image told nothing for too long"));
  }
  if (!is_places && said->getLast()) {
    end_session();
  }
  return std::move(*chunk);
}

result<frame<proto::InspectChunk>>
inspect_session_state::added_places(proto::InspectAnswer::Reader said) try {
  is_told_ = said.getLast();
  auto added = places_->add(said.getParts());
  if (added.has_error()) {
    return added.error();
  }
  if (is_told_ && !places_->may_end()) {
    return fail(storage::ec::damaged, "the reader of the image did not tell all of a file");
  }
  return places_->take();
} catch (const kj::Exception&) {
  return fail(storage::ec::damaged, "the reader of the image broke its protocol");
}

/// An answer without content is honest, but not one after the other for ever.
bool inspect_session_state::is_silent_for_long(proto::InspectChunk::Reader chunk) {
  if (chunk.getLast() || has_content(chunk)) {
    silent_since_.reset();
    return false;
  }
  const auto now = self_->clock().now();
  if (!silent_since_) {
    silent_since_ = now;
    return false;
  }
  return now - *silent_since_ >= parts_->silence_max;
}

/// The worker itself is well, unless it met damage: who knows what that has done to it.
caf::error inspect_session_state::failed(const frame<proto::InspectAnswer>& answer) try {
  auto view = answer.view();
  auto said = view->getFailed();
  auto error = make_error(code_of(said.getReason()), said.getText().cStr());
  if (said.getReason() == proto::InspectAnswer::Reason::DAMAGED) {
    return quit_with(std::move(error));
  }
  end_session();
  return error;
} catch (const kj::Exception&) {
  return broken_protocol();
}

void inspect_session_state::end_session() {
  places_.reset();
  const auto ended = std::exchange(session_, 0);
  if (auto image = caf::actor_cast<image_actor>(owner_); image && ended != 0) {
    self_->send(image, make_frame<proto::InspectEnded>([&](auto r) { r.setSession(ended); }));
  }
}

/// One timer at a time: a session that asks for piece after piece must not pile them up.
void inspect_session_state::check_idleness() {
  seen_asked_ = asked_;
  self_->delayed_send(self_, parts_->idle_timeout, make_frame<proto::Tick>());
}

inspect_session_actor::behavior_type
inspect_session_state::make_behavior(std::shared_ptr<const inspect_parts> parts, const uuid& image,
                                     const caf::actor_addr& owner) {
  parts_ = std::move(parts);
  image_ = image;
  owner_ = owner;
  return {
      [this](const frame<proto::InspectOpen>& r) { return open(r); },
      [this](const frame<proto::InspectNext>& r) {
        auto view = r.view();
        return guarded([&]() { return read(*view); });
      },
      [this](const frame<proto::InspectClose>& r) {
        if (r.view()->getSession() == session_) {
          session_ = 0;
          places_.reset();
        }
      },
      [this](const frame<proto::Tick>&) {
        // Files are being sent from the places that were given: as long as their client takes them,
        // at the pace that the gateway sees to. It always asks again or closes, and the image has
        // to stay until then.
        if (session_ != 0 && seen_asked_ == asked_ && !is_given_) {
          self_->quit();
        } else {
          check_idleness();
        }
      },
  };
}

inspect_session_actor::behavior_type
inspect_session(inspect_session_actor::stateful_pointer<inspect_session_state> self,
                std::shared_ptr<const inspect_parts> parts, uuid image, caf::actor_addr owner) {
  return self->state.make_behavior(std::move(parts), image, owner);
}

} // namespace coppice
