#pragma once

#include "protocol/records.capnp.h"
#include "protocol/types.capnp.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace coppice {

/// The numbers of this node, for Prometheus.
///
/// Problem: an operator wants to see from outside where time and memory go, without reading logs.
/// So actors say here what happens, and `GET /metrics` gives it as text. Guarantees: whatever is
/// said is counted exactly; the number of series is bounded, for labels are names out of this code
/// alone, never a project, an image or an operation; saying something takes a microsecond and never
/// waits. docs/operators.md has the list.
///
/// Owner: shared by all that say something; any thread.
class node_metrics {
public:
  /// How a run or an import ended.
  enum class ending : std::uint8_t { success, failed, timeout, cancelled };
  /// What waits for a slot.
  enum class slot_kind : std::uint8_t { instance, import };
  enum class template_event : std::uint8_t {
    made,
    loaded,  ///< from disk
    refused, ///< damaged on disk, or a VM could not be restored from it
    failed,  ///< none could be made: VMs boot
  };

  struct slots {
    std::size_t running = 0;
    std::uint64_t cpus = 0;
    std::uint64_t memory_mib = 0;
  };

  struct pool {
    std::size_t running = 0; ///< handed out and not gone yet
    std::size_t waiting = 0;
    std::size_t preparing = 0;
    std::uint64_t memory_bytes = 0; ///< that those which wait or are prepared are reckoned with
  };

  node_metrics();
  ~node_metrics();
  node_metrics(const node_metrics&) = delete;
  node_metrics& operator=(const node_metrics&) = delete;

  /// What its record says of the time, phases that it did not reach left out.
  void run_ended(ending how, proto::Phases::Reader phases);
  void import_ended(ending how);
  /// The one of both that this record is of.
  void operation_ended(proto::OperationRecord::Reader record);
  /// Until the end of an operation was durable in the catalog.
  void end_committed(std::chrono::microseconds took);

  void slot_granted(slot_kind kind, std::chrono::microseconds waited);
  void set_queue(slot_kind kind, std::size_t waiting, std::size_t running);
  void set_slots_used(const slots& by_runs);
  void set_slots_max(const slots& of_node);

  /// A run asked for a VM; hit: one that waited was alive.
  void vm_taken(bool is_hit);
  void set_pool(const pool& now);
  void template_was(template_event what);

  /// `route`: the pattern of the address, or "other"; never the address itself.
  void request_answered(std::string_view method, std::string_view route, unsigned status,
                        std::chrono::microseconds took);

  /// Asked when the text is made. Set before anybody asks for that.
  void on_free_space(std::function<std::optional<std::uint64_t>()> probe);

  /// In the text format of Prometheus, version 0.0.4.
  std::string text() const;

private:
  struct families;
  std::unique_ptr<families> families_;
};

} // namespace coppice
