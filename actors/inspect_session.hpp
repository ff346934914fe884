#pragma once

#include "actors/disk_sockets.hpp"
#include "actors/image_places.hpp"
#include "actors/inspect_shelf.hpp"
#include "actors/inspect_worker.hpp"
#include "actors/interfaces.hpp"
#include "actors/type_ids.hpp"
#include "protocol/uuid.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <caf/actor_clock.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

namespace coppice {

/// What inspect sessions share.
struct inspect_parts {
  /// Starts a process that reads the disks behind these sockets. Any thread.
  std::function<result<std::unique_ptr<inspect_worker>>(std::vector<vmm::unique_fd>)> start_worker;
  store_actor store;
  std::shared_ptr<disk_sockets> sockets;
  /// Where the clusters of an image lie; any thread.
  std::function<result<std::shared_ptr<const storage::block_index>>(const uuid&)> index_of;
  std::chrono::seconds idle_timeout{30};
  std::shared_ptr<session_limit> limit;

  /// One answer after the other may say for so long that there is nothing to tell yet. A search or
  /// a comparison ends after a minute of work at most.
  std::chrono::milliseconds silence_max{90'000};

  /// An image that is compared with another one is held for so long without a question. Longer than
  /// opening the other one takes, or a piece of what is told and its client.
  std::chrono::milliseconds hold_kept{120'000};

  /// A reader that nobody needs waits so long for its image's next session. Somebody who looks
  /// around in an image asks every few seconds.
  std::chrono::milliseconds reader_kept{10'000};
  /// Each is a process of some 20 to 40 MiB.
  std::shared_ptr<inspect_shelf> shelf = std::make_shared<inspect_shelf>(8);
};

/// Reads an image through a worker process, one session at a time.
///
/// Problem: the file system inside an image was written by a hostile guest, and the code that
/// parses it is not ours. So it runs in a process of its own, which sees the image as a microVM
/// would, as a served disk; if that process dies, hangs or says nonsense, this session fails and
/// nothing else. Content comes piece by piece, each when it is asked for: memory does not depend on
/// sizes. The bytes of files are told by where they lie in the store.
///
/// A process serves the sessions of one project on one image only: what a hostile image may have
/// made of it hears of nobody else.
///
/// Blocks on the worker's socket: spawned detached. Owner: its image's actor.
class inspect_session_state {
public:
  explicit inspect_session_state(
      inspect_session_actor::stateful_pointer<inspect_session_state> self)
      : self_{self} {}
  ~inspect_session_state();
  inspect_session_state(const inspect_session_state&) = delete;
  inspect_session_state& operator=(const inspect_session_state&) = delete;

  inspect_session_actor::behavior_type make_behavior(std::shared_ptr<const inspect_parts> parts,
                                                     const uuid& image,
                                                     const caf::actor_addr& owner);

  static inline const char* name = "inspect_session";

private:
  using session_promise = caf::typed_response_promise<frame<proto::InspectSession>>;

  /// A served disk that the worker reads.
  struct disk {
    uuid image;
    uuid view = uuid::random(); ///< names it
    std::uint64_t slot = 0;     ///< 0: none yet
  };

  caf::result<frame<proto::InspectSession>> open(const frame<proto::InspectOpen>& request);
  void prepare(session_promise promise, const frame<proto::InspectOpen>& request);
  void open_slot(std::size_t number, session_promise promise,
                 const frame<proto::InspectOpen>& request);
  void attach(std::size_t number, session_promise promise,
              const frame<proto::InspectOpen>& request);
  void begin(session_promise promise, const frame<proto::InspectOpen>& request);
  caf::expected<frame<proto::InspectSession>> ask_worker(const frame<proto::InspectOpen>& request);
  result<void> start_worker();
  result<void> find_places(proto::InspectOpen::Reader request, std::uint64_t size_bytes);
  caf::result<frame<proto::InspectChunk>> read(proto::InspectNext::Reader request);
  caf::result<frame<proto::InspectChunk>> ask_more(std::uint64_t content_bytes_max);
  result<frame<proto::InspectChunk>> added_places(proto::InspectAnswer::Reader said);
  caf::error broken_protocol();
  bool is_silent_for_long(proto::InspectChunk::Reader chunk);
  caf::error failed(const frame<proto::InspectAnswer>& answer);
  void end_session();
  void release_disks();
  void check_idleness();
  template <class T>
  T quit_with(T last);

  inspect_session_actor::stateful_pointer<inspect_session_state> self_;
  std::shared_ptr<const inspect_parts> parts_;
  uuid image_;
  caf::actor_addr owner_;
  std::vector<disk> disks_;
  std::unique_ptr<inspect_worker> worker_;
  bool has_answered_ = false; ///< that worker
  std::uint64_t session_ = 0; ///< under way; 0: none
  std::unique_ptr<image_places> places_;
  bool is_given_ = false; ///< places of this session were
  bool is_told_ = false;  ///< the worker has no more of this session
  std::optional<caf::actor_clock::time_point> silent_since_; ///< no content since that answer
  std::uint64_t asked_ = 0;
  std::uint64_t seen_asked_ = 0; ///< when the timer last looked
};

inspect_session_actor::behavior_type
inspect_session(inspect_session_actor::stateful_pointer<inspect_session_state> self,
                std::shared_ptr<const inspect_parts> parts, uuid image, caf::actor_addr owner);

} // namespace coppice
