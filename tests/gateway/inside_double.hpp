#pragma once

#include "actors/type_ids.hpp"
#include "gateway/gateway.hpp"
#include "protocol/uuid.hpp"

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace coppice::test {

/// The inside of the server as the gateway sees it: real actors over plain tables. What the
/// gateway asked is kept, what it is answered can be prepared. Every access takes the lock.
class inside_double {
public:
  struct image {
    uuid id;
    std::string project;
    std::vector<std::string> tags;
    uuid operation;
    std::uint64_t logical_bytes = 8192;
  };
  struct file {
    uuid id;
    std::string project;
    std::string sha256;
    std::uint64_t size_bytes = 0;
  };
  struct path {
    std::string data;                 ///< of a regular file
    std::vector<std::string> entries; ///< of a directory
    bool is_directory = false;
    std::optional<std::uint64_t> announced_bytes; ///< other than there are
    std::optional<uuid> stored;                   ///< the store's file that has these bytes
  };

  inside_double();
  ~inside_double();

  gateway::services services() {
    return {system,     catalog,   catalog_writer, store,   images,
            operations, scheduler, config,         metrics, capacity};
  }

  template <class Work>
  auto locked(Work&& work) {
    std::scoped_lock lock{mutex};
    return work();
  }

  /// A token of `project` with the given rights; bits as in the record, all by default.
  void add_token(const std::string& text, const std::string& project, bool may_spawn = true,
                 bool may_list = true, bool may_delete_image = true);
  /// The same with every right but what `change` takes.
  void add_token_with(const std::string& text, const std::string& project,
                      const std::function<void(proto::TokenRecord::Builder)>& change);
  uuid add_image(const std::string& project, std::vector<std::string> tags);
  /// An operation in the catalog, edited by `fill`.
  uuid add_operation(const std::string& project,
                     const std::function<void(proto::OperationRecord::Builder)>& fill);
  /// Wakes who watches the operation.
  void add_event(const uuid& operation, const std::function<void(proto::Event::Builder)>& fill);
  /// The record's status with a completion behind its events, in one step.
  void end_operation(const uuid& operation, proto::OperationStatus status);
  /// Answers all who watch, news or not; `is_live` as told.
  void wake_watchers(bool is_live = true);
  /// Blocks until so many watches have come, in all.
  void wait_for_watches(std::uint64_t count);

  struct actor_config : caf::actor_system_config {
    actor_config();
  };

  settings config;
  std::shared_ptr<node_metrics> metrics = std::make_shared<node_metrics>();
  std::shared_ptr<known_capacity> capacity =
      std::make_shared<known_capacity>(node_capacity{1000, 1000, 1'000'000});
  std::mutex mutex;
  std::condition_variable asked; ///< something came that nobody is answered for

  // -- what there is -----------------------------------------------------------------------------
  std::map<std::string, frame<proto::TokenRecord>> tokens; ///< by digest
  std::vector<image> image_table;
  std::vector<file> file_table;
  std::map<uuid, frame<proto::OperationRecord>> operation_table;
  std::map<uuid, std::vector<frame<proto::Event>>> event_table;
  std::map<std::string, path> paths;          ///< of every image
  std::map<uuid, std::uint32_t> queue_places; ///< of those that wait
  /// What searches and comparisons find: of the session of that number, all in one piece.
  std::function<frame<proto::InspectChunk>(std::uint64_t)> prepared_chunk;
  std::optional<ec> store_error; ///< for every append
  /// What clients called their requests: digest and operation (nil: none).
  std::map<std::string, std::pair<std::string, uuid>> request_keys;
  std::function<void()> on_start; ///< called once, as an operation is about to start
  std::optional<ec> start_error;
  bool is_silent = false;          ///< operations never answer
  bool is_trimmed = false;         ///< event logs are
  std::optional<ec> process_error; ///< for every order to a process
  bool is_process_lost = false;    ///< its run goes down with the order in hand
  std::uint32_t last_spid = 1;     ///< each process that is started has the next one

  // -- what was asked ----------------------------------------------------------------------------
  std::vector<frame<proto::StartOperation>> started;
  std::vector<frame<proto::ListImages>> image_listings;
  std::vector<frame<proto::ListOperations>> operation_listings;
  std::vector<frame<proto::WalkTree>> walks;
  std::vector<std::string> removed_tags;
  std::vector<uuid> deleted_images;
  std::map<std::uint64_t, std::string> uploads;
  std::uint64_t appends = 0;
  std::uint64_t aborted_uploads = 0;
  std::uint64_t flushes = 0;
  std::vector<frame<proto::ProcessOrder>> process_orders;
  std::map<std::uint64_t, std::uint64_t> inspect_offsets; ///< open sessions
  std::map<std::uint64_t, std::uint64_t> inspect_ends;
  std::map<std::uint64_t, std::string> inspect_paths;
  std::map<std::uint64_t, frame<proto::InspectOpen>> inspect_orders; ///< of searches, comparisons
  std::uint64_t inspect_closes = 0;
  std::uint64_t event_pages = 0;
  std::uint64_t watches = 0;
  std::vector<caf::typed_response_promise<frame<proto::OperationRecord>>> unanswered;

  actor_config actor_settings;
  caf::actor_system system{actor_settings};
  catalog_reader_actor catalog;
  catalog_writer_actor catalog_writer;
  store_actor store;
  images_actor images;
  caf::actor watch_keeper; ///< holds the questions of followers
  operations_actor operations;
  scheduler_actor scheduler;
};

} // namespace coppice::test
