#pragma once

#include "actors/disk_sockets.hpp"
#include "actors/interfaces.hpp"
#include "actors/type_ids.hpp"
#include "storage/disk/engine.hpp"
#include "storage/space_reserve.hpp"

#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include <map>
#include <set>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

namespace coppice {

/// What the store actor works with.
struct store_parts {
  std::shared_ptr<storage::engine> disks;
  std::shared_ptr<disk_sockets> sockets;
  std::shared_ptr<storage::space_reserve> reserve; ///< null: uploads are never refused for it
};

/// The door to the store: overlays, seals, blobs. All of it is done by the engine, on threads of
/// its own, many at once. Spawned detached: an attach never waits for a thread of the actors.
class store_state {
public:
  explicit store_state(store_actor::stateful_pointer<store_state> self) : self_{self} {}

  store_actor::behavior_type make_behavior(store_parts parts);

  static inline const char* name = "store";

private:
  /// What the engine's threads have for us. They outlive us or we them, hence shared.
  struct answers {
    std::mutex mutex;
    std::vector<std::function<void()>> waiting;
  };

  caf::result<frame<proto::OverlayAttached>> attach(proto::AttachOverlay::Reader request);
  caf::result<frame<proto::OverlaySealed>> seal(proto::SealOverlay::Reader request);
  caf::result<frame<proto::OverlayDiscarded>> discard(proto::DiscardOverlay::Reader request);
  caf::result<frame<proto::BlobUpload>> begin_blob();
  caf::result<frame<proto::Done>> append_blob(proto::AppendBlob::Reader request);
  caf::result<frame<proto::BlobStored>> finish_blob(proto::FinishBlob::Reader request);
  caf::result<frame<proto::BlobChunk>> read_blob(proto::ReadBlob::Reader request);
  caf::result<frame<proto::DiskSlot>> open_slot();
  void close_slot(storage::engine::slot_number slot);

  /// An answer for the engine to call; `then` runs in this actor.
  template <class T>
  storage::engine::answer<T> here(std::function<void(result<T>)> then);
  /// The same, where it is the answer to a request, `told_as` a message.
  template <class Reply, class T>
  storage::engine::answer<T> reply(caf::typed_response_promise<frame<Reply>> to,
                                   std::function<frame<Reply>(const T&)> told_as);
  void take_answers();

  store_actor::stateful_pointer<store_state> self_;
  store_parts parts_;
  std::shared_ptr<answers> answers_ = std::make_shared<answers>();
  std::unordered_map<uuid, storage::engine::slot_number> slots_; ///< by their disk's overlay
  std::map<caf::actor_addr, std::set<storage::engine::slot_number>> openers_;
  std::unordered_map<storage::engine::slot_number, caf::actor_addr> opener_of_; ///< of open ones
};

store_actor::behavior_type store(store_actor::stateful_pointer<store_state> self,
                                 store_parts parts);

} // namespace coppice
