#pragma once

#include "actors/services.hpp"
#include "actors/settings.hpp"
#include "protocol/result.hpp"
#include "vmm/event_loop.hpp"

#include <filesystem>
#include <functional>
#include <memory>

namespace coppice {

/// The inside of one node: opens the store, starts every actor in order, watches them, stops them
/// in the opposite order.
///
/// Start: lock and store, catalog, leftovers removed; catalog reader and writer, store, scheduler,
/// images, operations (which first settles what an earlier run left unfinished). VM slots open
/// when the accelerator is chosen, in the background.
/// Restart policy: work dies alone (an operation whose work or VM actor fails ends as FAILED); an
/// actor of the list above holds state that others count on, so when one dies the node stops in
/// order, and starts clean from its durable records.
/// Stop: operations first (running ones end as FAILED, waiting ones stay PENDING), then the rest.
///
/// Owner: the daemon's main; `loop` must outlive it.
class runtime {
public:
  /// in_use: another daemon has the state folder, the text names its pid. `program` is this
  /// program's own file: workers and guards are started from it.
  static result<std::unique_ptr<runtime>> start(const settings& config, vmm::event_loop& loop,
                                                const std::filesystem::path& program);

  /// Stops, if that was not done.
  ~runtime();
  runtime(const runtime&) = delete;
  runtime& operator=(const runtime&) = delete;

  coppice::services services();

  /// Called once, from any thread, with the reason when the node cannot go on; main then stops.
  void on_fatal(std::function<void(std::string)> callback);

  /// Blocks until every VM is gone and every record is durable, at most half a minute; then
  /// whatever is left is killed.
  void shutdown();

private:
  struct impl;
  explicit runtime(std::unique_ptr<impl> state);
  std::unique_ptr<impl> impl_;
};

} // namespace coppice
