#pragma once

#include "actors/inspect_session.hpp"
#include "actors/interfaces.hpp"
#include "actors/type_ids.hpp"
#include "protocol/uuid.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <caf/actor_clock.hpp>
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
///
/// A session's reader stays for a while for the next one of the same project.
class image_state {
public:
  explicit image_state(image_actor::stateful_pointer<image_state> self) : self_{self} {}
  ~image_state();
  image_state(const image_state&) = delete;
  image_state& operator=(const image_state&) = delete;

  image_actor::behavior_type make_behavior(std::shared_ptr<const image_parts> parts, const uuid& id,
                                           const images_actor& directory);

  static inline const char* name = "image";

private:
  struct open_session {
    inspect_session_actor reader;
    std::string project;
    std::shared_ptr<void> ticket;
    bool is_reusable = true;
    caf::actor_clock::time_point asked; ///< a hold: when somebody last wanted it
  };
  struct waiting_reader {
    inspect_session_actor reader;
    std::string project;
    inspect_shelf::place place = 0;
    caf::actor_clock::time_point since;
  };

  caf::result<frame<proto::ImageRow>> pin(const frame<proto::PinImage>& request);
  void unpin(const frame<proto::UnpinImage>& request);
  caf::result<frame<proto::InspectSession>> open(const frame<proto::InspectOpen>& request);
  caf::result<frame<proto::InspectChunk>> read(const frame<proto::InspectNext>& request);
  void begin(caf::typed_response_promise<frame<proto::InspectSession>> promise,
             const frame<proto::InspectOpen>& request, std::shared_ptr<void> ticket);
  void hold(caf::typed_response_promise<frame<proto::InspectSession>> promise,
            open_session session);
  void look_at_holds();
  void end_forgotten_holds();
  void close(const frame<proto::InspectClose>& request);
  void keep_reader(std::uint64_t session);
  void end_reader(const inspect_session_actor& reader);
  inspect_session_actor take_reader(const std::string& project);
  void give_up_readers(const std::function<bool(const waiting_reader&)>& which);
  void look_at_readers();
  void start_timer(std::chrono::milliseconds delay, std::uint32_t timer, std::uint64_t generation);
  void tick(proto::Tick::Reader t);
  void reader_down(const caf::actor_addr& reader);
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
  std::unordered_map<std::uint64_t, open_session> sessions_;
  std::deque<waiting_reader> waiting_;         ///< the longest first
  std::vector<inspect_session_actor> leaving_; ///< told to end
  bool is_looking_at_readers_ = false;         ///< a timer is on its way
  bool is_looking_at_holds_ = false;           ///< as well
  std::uint64_t last_session_ = 0;
  std::uint64_t received_ = 0;
  std::uint64_t looking_up_ = 0; ///< requests whose catalog look-up is under way
  std::vector<removal> removals_;
  std::size_t removing_ = 0; ///< deletions that the catalog decides on
  std::uint64_t grace_generation_ = 0;
  std::size_t timers_ = 0; ///< under way
};

image_actor::behavior_type image(image_actor::stateful_pointer<image_state> self,
                                 std::shared_ptr<const image_parts> parts, uuid id,
                                 images_actor directory);

} // namespace coppice
