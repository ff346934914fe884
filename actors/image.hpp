#pragma once

#include "actors/inspect_session.hpp"
#include "actors/interfaces.hpp"
#include "actors/type_ids.hpp"
#include "protocol/uuid.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

namespace coppice {

/// What image actors share.
struct image_parts {
  catalog_reader_actor catalog;
  catalog_writer_actor catalog_writer;
  reclaimer_actor reclaimer;
  std::shared_ptr<const inspect_parts> inspect;

  /// A session whose content has been read to its end goes by itself, but not in no time.
  std::chrono::milliseconds reading_grace{1000};
};

/// One image while something uses it: who runs from it (pins) and who reads it (sessions).
///
/// Images never change, so only deletion has to ask. What the catalog knows it decides itself in
/// the transaction that deletes: an image is not deleted before every operation that was given it
/// has ended, which includes the commit of its result. So a pin that outlives its operation, that
/// of a VM that is being killed, holds nothing up. Sessions are known only here: while there is one
/// the image is not deleted, and while it is being deleted none begins.
class image_state {
public:
  explicit image_state(image_actor::stateful_pointer<image_state> self) : self_{self} {}

  image_actor::behavior_type make_behavior(std::shared_ptr<const image_parts> parts, const uuid& id,
                                           const images_actor& directory);

  static inline const char* name = "image";

private:
  caf::result<frame<proto::ImageRow>> pin(const frame<proto::PinImage>& request);
  void unpin(const frame<proto::UnpinImage>& request);
  caf::result<frame<proto::InspectSession>> open(const frame<proto::InspectOpen>& request);
  caf::result<frame<proto::InspectChunk>> read(const frame<proto::InspectNext>& request);
  caf::result<frame<proto::Done>> remove(const frame<proto::DeleteImage>& request);
  void try_removals();
  void refuse_removals();
  void tell_if_idle();

  /// A deletion that waits for sessions to end.
  struct removal {
    frame<proto::DeleteImage> request;
    caf::typed_response_promise<frame<proto::Done>> answer;
  };

  image_actor::stateful_pointer<image_state> self_;
  std::shared_ptr<const image_parts> parts_;
  uuid id_;
  images_actor directory_;
  std::unordered_set<uuid> pins_;
  std::unordered_map<std::uint64_t, inspect_session_actor> sessions_;
  std::uint64_t last_session_ = 0;
  std::uint64_t received_ = 0;
  std::uint64_t looking_up_ = 0; ///< requests whose catalog look-up is under way
  std::vector<removal> removals_;
  std::size_t removing_ = 0; ///< deletions that the catalog decides on
  std::uint64_t grace_generation_ = 0;
};

image_actor::behavior_type image(image_actor::stateful_pointer<image_state> self,
                                 std::shared_ptr<const image_parts> parts, uuid id,
                                 images_actor directory);

} // namespace coppice
