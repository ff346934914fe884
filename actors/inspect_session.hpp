#pragma once

#include "actors/disk_sockets.hpp"
#include "actors/interfaces.hpp"
#include "actors/type_ids.hpp"
#include "protocol/uuid.hpp"
#include "vmm/child_process.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

namespace coppice {

/// How many sessions may be open on the node. Each holds a ticket while it lives.
class session_limit : public std::enable_shared_from_this<session_limit> {
public:
  explicit session_limit(std::uint32_t sessions_max) : max_{sessions_max} {}

  /// A ticket that gives its place back when the last copy goes; null when all are taken.
  std::shared_ptr<void> try_take();

private:
  std::uint32_t max_;
  std::atomic<std::uint32_t> taken_{0};
};

/// What inspect sessions share.
struct inspect_parts {
  vmm::event_loop* loop = nullptr; ///< outlives the actor system
  std::string program;             ///< this program: it is its own worker
  store_actor store;
  std::shared_ptr<disk_sockets> sockets;
  std::chrono::seconds idle_timeout{30};
  std::chrono::seconds answer_timeout{30}; ///< for one answer of the worker
  std::shared_ptr<session_limit> limit;
};

/// Reads one path of one image through a worker process.
///
/// Problem: the file system inside an image was written by a hostile guest, and the code that
/// parses it is not ours. So it runs in a process of its own for each session, which sees the image
/// as a microVM would, as a served disk; if that process dies, hangs or says nonsense, this session
/// fails and nothing else. Content comes piece by piece, each when
/// it is asked for: memory does not depend on sizes.
///
/// Blocks on the worker's socket: spawned detached.
class inspect_session_state {
public:
  explicit inspect_session_state(
      inspect_session_actor::stateful_pointer<inspect_session_state> self)
      : self_{self} {}
  ~inspect_session_state();
  inspect_session_state(const inspect_session_state&) = delete;
  inspect_session_state& operator=(const inspect_session_state&) = delete;

  inspect_session_actor::behavior_type make_behavior(std::shared_ptr<const inspect_parts> parts,
                                                     const uuid& image, std::uint64_t number,
                                                     std::shared_ptr<void> ticket);

  static inline const char* name = "inspect_session";

private:
  caf::result<frame<proto::InspectSession>> open(const frame<proto::InspectOpen>& request);
  void attach(caf::typed_response_promise<frame<proto::InspectSession>> promise,
              const frame<proto::InspectOpen>& request);
  caf::result<frame<proto::InspectChunk>> read();
  caf::expected<frame<proto::InspectSession>> ask_worker(const frame<proto::InspectOpen>& request);
  result<void> start_worker();
  /// Sends one message to the worker and waits for its answer.
  template <class Message>
  result<frame<proto::InspectAnswer>> exchange(const frame<Message>& message);
  void rearm();

  inspect_session_actor::stateful_pointer<inspect_session_state> self_;
  std::shared_ptr<const inspect_parts> parts_;
  uuid image_;
  uuid view_ = uuid::random(); ///< names the disk that the worker reads
  std::uint64_t slot_ = 0;     ///< of that disk; 0: none yet
  std::uint64_t number_ = 0;
  std::shared_ptr<void> ticket_;
  std::shared_ptr<vmm::child_process> worker_;
  int socket_ = -1;
  std::uint64_t generation_ = 0;
};

inspect_session_actor::behavior_type
inspect_session(inspect_session_actor::stateful_pointer<inspect_session_state> self,
                std::shared_ptr<const inspect_parts> parts, uuid image, std::uint64_t number,
                std::shared_ptr<void> ticket);

} // namespace coppice
