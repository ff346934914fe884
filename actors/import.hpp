#pragma once

#include "actors/interfaces.hpp"
#include "actors/type_ids.hpp"
#include "protocol/uuid.hpp"
#include "protocol/worker.capnp.h"
#include "vmm/child_process.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

namespace coppice {

/// What import actors share.
struct import_parts {
  vmm::event_loop* loop = nullptr; ///< outlives the actor system
  catalog_reader_actor catalog;
  store_actor store;
  scheduler_actor scheduler;
  std::string program; ///< this program: it is its own worker
  std::string skopeo = "skopeo";
  std::filesystem::path tmp_dir; ///< scratch folders are made below it
  std::function<std::filesystem::path(const uuid& overlay)> overlay_path;
  std::vector<std::string> insecure_registries;
  std::uint64_t content_bytes_max = 0;
};

/// One import: fetch, merge into a file system, seal.
///
///   queued ▶ fetching (skopeo) ▶ building (worker) ▶ sealing ▶ leaving
///
/// Fetching and building are child processes: registries and archives are hostile input. One
/// deadline covers both. Guarantee: nothing stays behind but the sealed image; credentials are in a
/// file that only skopeo's process is told of, never on a command line.
enum class import_stage : std::uint8_t {
  queued,   ///< waits for a slot
  fetching, ///< skopeo copies the image into a layout of our own
  building, ///< the worker merges the layers into a file system
  matching, ///< is it an image that we have?
  sealing,  ///< the disk becomes an image
  leaving,  ///< the end is told; what is held is given back
};

class import_state {
public:
  explicit import_state(work_actor::stateful_pointer<import_state> self) : self_{self} {}

  work_actor::behavior_type make_behavior(std::shared_ptr<const import_parts> parts,
                                          const operation_actor& operation,
                                          frame<proto::OperationRecord> record,
                                          const uuid& result_image);

  static inline const char* name = "import";

private:
  void queue();
  void prepare();
  void fetch();
  void build();
  void built();
  void match();
  void seal();
  void child_exited(const frame<proto::ChildExited>& message);
  void run_child(vmm::child_options options);

  void fail(const std::string& text);
  /// The same where the registry, the image or the request is to blame.
  void fail_task(const std::string& text);
  void leave();
  void discard();
  void give_back();

  bool at(import_stage stage) const {
    return stage_ == stage;
  }
  std::filesystem::path scratch() const {
    return parts_->tmp_dir / id_.text();
  }
  std::filesystem::path layout() const;
  /// Where the worker, which sees nothing but its folders, makes the image's file.
  std::filesystem::path made() const {
    return scratch() / "image";
  }
  result<void> write_credentials(const std::filesystem::path& file) const;

  work_actor::stateful_pointer<import_state> self_;
  std::shared_ptr<const import_parts> parts_;
  operation_actor operation_;
  frame<proto::OperationRecord> record_;
  uuid id_;
  uuid result_image_;
  uuid existing_;
  import_stage stage_ = import_stage::queued;
  std::shared_ptr<vmm::child_process> child_;
  frame<proto::ImportAnswer> answer_;
  std::optional<frame<proto::OverlaySealed>> sealed_;
  std::optional<std::string> failure_; ///< told when everything is given back
  bool is_task_fault_ = false;
};

work_actor::behavior_type import(work_actor::stateful_pointer<import_state> self,
                                 std::shared_ptr<const import_parts> parts,
                                 operation_actor operation, frame<proto::OperationRecord> record,
                                 uuid result_image);

/// A reference as clients write it, taken apart: `docker://HOST/PATH:TAG`, `HOST/PATH@sha256:…`;
/// the host defaults to docker.io, a single name to library/NAME, the tag to latest.
struct registry_reference {
  std::string host;
  std::string path; ///< with tag or digest
  std::string skopeo() const {
    return "docker://" + host + "/" + path;
  }
};

/// Nothing if it cannot be a reference.
std::optional<registry_reference> parse_registry_reference(std::string_view url);

/// The part of skopeo's output that says what went wrong, in the registry's own words.
std::string registry_words(std::string_view output);

} // namespace coppice
