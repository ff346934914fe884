#pragma once

#include "actors/image.hpp"
#include "actors/interfaces.hpp"
#include "actors/type_ids.hpp"

#include <unordered_map>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

namespace coppice {

/// The directory of images in use. An image's actor is made on first use and let go when it says
/// that nothing holds it and nothing was sent to it in the meantime. With the directory all end,
/// and their readers.
class images_state {
public:
  explicit images_state(images_actor::stateful_pointer<images_state> self) : self_{self} {}
  ~images_state();
  images_state(const images_state&) = delete;
  images_state& operator=(const images_state&) = delete;

  images_actor::behavior_type make_behavior(std::shared_ptr<const image_parts> parts);

  static inline const char* name = "images";

private:
  struct entry {
    image_actor actor;
    std::uint64_t sent = 0;
  };

  /// The actor of that image; counts the message that the caller is about to send.
  const image_actor& use(const uuid& id);
  void idle(const frame<proto::ImageIdle>& message);

  images_actor::stateful_pointer<images_state> self_;
  std::shared_ptr<const image_parts> parts_;
  std::unordered_map<uuid, entry> live_;
};

images_actor::behavior_type images(images_actor::stateful_pointer<images_state> self,
                                   std::shared_ptr<const image_parts> parts);

} // namespace coppice
