#pragma once

#include "actors/inspect_session.hpp"
#include "actors/interfaces.hpp"
#include "actors/type_ids.hpp"
#include "protocol/uuid.hpp"

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

namespace coppice {

/// What image actors share.
struct image_parts {
  catalog_reader_actor catalog;
  std::shared_ptr<const inspect_parts> inspect;
};

/// One image while something uses it: who runs from it (pins) and who reads it (sessions).
/// Images never change, so there is nothing to lock; the pins are what deletion will ask for.
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
  void tell_if_idle();

  image_actor::stateful_pointer<image_state> self_;
  std::shared_ptr<const image_parts> parts_;
  uuid id_;
  images_actor directory_;
  std::unordered_set<uuid> pins_;
  std::unordered_map<std::uint64_t, inspect_session_actor> sessions_;
  std::uint64_t last_session_ = 0;
  std::uint64_t received_ = 0;
  std::uint64_t looking_up_ = 0; ///< requests whose catalog look-up is under way
};

image_actor::behavior_type image(image_actor::stateful_pointer<image_state> self,
                                 std::shared_ptr<const image_parts> parts, uuid id,
                                 images_actor directory);

} // namespace coppice
