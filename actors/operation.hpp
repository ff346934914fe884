#pragma once

#include "actors/event_log.hpp"
#include "actors/event_watchers.hpp"
#include "actors/interfaces.hpp"
#include "actors/node_metrics.hpp"
#include "actors/operation_state.hpp"
#include "actors/output_tally.hpp"
#include "actors/type_ids.hpp"
#include "protocol/uuid.hpp"
#include "storage/space_reserve.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

namespace coppice {

/// What operation actors share.
struct operation_parts {
  catalog_writer_actor catalog;
  store_actor store;
  scheduler_actor scheduler;
  images_actor images;
  std::shared_ptr<storage::space_reserve> reserve; ///< null: nothing is refused for it
  std::shared_ptr<node_metrics> metrics = std::make_shared<node_metrics>();
  /// Spawns the work of an operation as a monitored child of `parent`; it begins by itself. The
  /// image that it makes gets the id `result_image`.
  std::function<work_actor(operation_actor::pointer parent,
                           const frame<proto::OperationRecord>& record, const uuid& result_image)>
      spawn_work;
};

/// The durable record of one piece of work.
///
/// Guarantee: every change of state is in the catalog in order; the terminal state, the last
/// events and the new image are one transaction, so whoever sees the end sees all of it; a cancel
/// that is answered is durable; work that dies without a word ends as FAILED.
class operation_state {
public:
  explicit operation_state(operation_actor::stateful_pointer<operation_state> self) : self_{self} {}

  operation_actor::behavior_type make_behavior(std::shared_ptr<const operation_parts> parts,
                                               frame<proto::OperationRecord> record);

  static inline const char* name = "operation";

  /// Output is written when this much waits or this long after the first byte.
  static constexpr std::size_t flush_bytes = 256u << 10;
  static constexpr auto flush_delay = std::chrono::milliseconds{100};
  /// The same while somebody follows the log.
  static constexpr auto prompt_flush_delay = std::chrono::milliseconds{5};
  /// A terminal commit that fails (disk full) is tried again this often, this many times; after
  /// that the operation ends as FAILED at the next start.
  static constexpr auto commit_retry_delay = std::chrono::seconds{1};
  static constexpr int commit_tries_max = 120;

private:
  /// Where the record is on its way to its end.
  enum class stage : std::uint8_t {
    live,       ///< the work goes on
    committing, ///< the end is decided and on its way to the catalog
    final,      ///< the end is durable
    parked,     ///< the server stops: the record stays PENDING for the next start
  };

  enum class timer : std::uint32_t { flush, retry, prompt_flush, watch };

  using cancel_promise = caf::typed_response_promise<frame<proto::OperationRecord>>;
  using flush_promise = caf::typed_response_promise<frame<proto::Done>>;

  /// Who wants to read what there was when it asked.
  struct waiting_flush {
    std::uint64_t event_count;
    std::uint64_t record_version;
    flush_promise promise;
  };

  /// How the operation ends: what write_end sends.
  struct ending {
    frame<proto::OperationRecord> record;
    std::optional<frame<proto::ImageRecord>> image;
    std::optional<frame<proto::ImageIndex>> index; ///< of the image
    std::string tag;
  };

  caf::result<frame<proto::OperationRecord>> cancel();
  caf::result<frame<proto::Done>> flush();
  caf::result<frame<proto::OperationProgress>> watch(const frame<proto::WatchOperation>& request);
  void let_watchers_go();
  void started(const frame<proto::OperationStarted>& message);
  void executing(const frame<proto::OperationExecuting>& message);
  void output(const frame<proto::FromGuest>& message);
  void outcome(const frame<proto::OperationOutcome>& message);
  void shut_down();

  // -- processes (operation_processes.cpp) -------------------------------------------------------
  caf::result<frame<proto::ProcessAnswer>> process_order(const frame<proto::ProcessOrder>& order);
  void process_report(const frame<proto::ProcessReport>& message);
  /// The end of a process, and what was dropped of its output.
  void add_exit(std::uint32_t spid, std::int64_t at_unix_ns, proto::RunResult::Reader result);
  /// What was added to the log is on its way soon.
  void write_soon();

  /// Takes the transition and remembers the record; false: it is not allowed in this state.
  bool advance(operation_event event);
  /// Decides the end: the terminal record, its last events, the image; and starts the commit.
  void finish(operation_event event, const std::string& error,
              const frame<proto::OperationOutcome>* outcome = nullptr);
  void add_last_events(proto::OperationRecord::Reader end, const std::string& reason);
  void note_full_log();
  /// The record with what is known of the output so far.
  void note_output();
  /// One request to the catalog at a time: the end, else the record, else events. None while one
  /// that failed waits to be tried again.
  void pump();
  /// The record is to be written.
  void note_change();
  bool is_record_written() const {
    return written_version_ == record_version_;
  }
  /// Answers those whose events and record are durable.
  void answer_flushes();
  void fail_flushes(const caf::error& why);
  void write_record();
  void write_events();
  /// Of the record or of events: again in a while, unless the end is to be written now.
  void write_failed(const caf::error& error);
  void write_end();
  void end_written();
  void end_failed(const caf::error& error);
  void discard_result();
  void work_gone(bool in_order);
  void abort_work(const std::string& reason);
  void quit_if_over();
  void tick(timer t);
  /// Output waits: it is to be written soon, sooner when somebody waits for it.
  void arm_flush();
  void arm_retry();
  void arm(timer t, std::chrono::milliseconds delay);

  operation_actor::stateful_pointer<operation_state> self_;
  std::shared_ptr<const operation_parts> parts_;
  frame<proto::OperationRecord> record_;
  uuid id_;
  uuid result_image_;
  proto::OperationStatus status_ = proto::OperationStatus::PENDING;
  stage stage_ = stage::live;
  caf::actor_clock::time_point accepted_at_;
  caf::actor_clock::time_point started_at_;
  caf::actor_clock::time_point ended_at_;
  event_log log_;
  output_tally tally_;
  work_actor work_;
  bool catalog_busy_ = false;
  std::uint64_t record_version_ = 0;
  std::uint64_t written_version_ = 0; ///< of the record; durable
  bool flush_armed_ = false;
  bool prompt_flush_armed_ = false;
  bool watch_armed_ = false;
  bool retry_armed_ = false;
  int commit_tries_ = 0;
  std::optional<ending> end_;
  std::vector<cancel_promise> cancels_;
  std::vector<waiting_flush> flushes_;
  event_watchers watchers_;
};

operation_actor::behavior_type operation(operation_actor::stateful_pointer<operation_state> self,
                                         std::shared_ptr<const operation_parts> parts,
                                         frame<proto::OperationRecord> record);

} // namespace coppice
