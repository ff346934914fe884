#include "storage/disk/shard.hpp"

#include "protocol/limits.hpp"
#include "storage/error.hpp"
#include "storage/ring/io.hpp"

#include <coroutine>
#include <utility>
#include <vector>

namespace coppice::storage {

class shard::idle {
public:
  explicit idle(slot& of) : of_{of} {}
  bool await_ready() const noexcept {
    return of_.is_closed;
  }
  void await_suspend(std::coroutine_handle<> caller) {
    of_.on_idle.push_back(caller);
    // The connection tells the latest who asks, hence all of them at once.
    of_.connection->drained([&of = of_]() {
      for (auto next : std::exchange(of.on_idle, {})) {
        next.resume();
      }
    });
  }
  void await_resume() const noexcept {
    // nop
  }

private:
  slot& of_;
};

class shard::closed {
public:
  explicit closed(slot& of) : of_{of} {}
  bool await_ready() const noexcept {
    return of_.is_closed;
  }
  void await_suspend(std::coroutine_handle<> caller) {
    of_.on_closed = caller;
  }
  void await_resume() const noexcept {
    // nop
  }

private:
  slot& of_;
};

shard::shard(ring& on, std::filesystem::path images, index_cache& indexes,
             std::size_t files_open_max)
    : ring_{on}, images_{std::move(images)}, indexes_{indexes}, files_{on, images_, files_open_max},
      names_{on, images_.string()} {}

std::filesystem::path shard::overlay_file(const uuid& id) const {
  return images_ / (id.text() + ".overlay");
}

std::filesystem::path shard::image_file(const uuid& id) const {
  return images_ / (id.text() + ".qcow2");
}

void shard::open_slot(engine::slot_number number, int socket) {
  auto made = std::make_unique<slot>();
  nbd_connection::settings chosen;
  chosen.disk_bytes = limits::disk_bytes;
  made->connection = std::make_unique<nbd_connection>(
      ring_, socket, chosen, nullptr, [of = made.get()](const std::string&) {
        of->is_closed = true;
        if (auto waiting = std::exchange(of->on_closed, nullptr)) {
          waiting.resume();
        }
      });
  slots_.emplace(number, std::move(made));
}

task<void> shard::close_slot(engine::slot_number number) {
  visits::one under_way{visits_};
  auto known = slots_.find(number);
  if (known == slots_.end()) {
    co_return;
  }
  auto leaving = std::move(known->second);
  slots_.erase(known);
  for (auto& [id, d] : disks_) {
    if (d.at == number) {
      d.at = 0;
    }
  }
  leaving->connection->point_to(nullptr);
  idle drained{*leaving};
  co_await drained;
  if (!leaving->is_closed) {
    leaving->connection->close();
  }
  closed ended{*leaving};
  co_await ended;
}

task<result<void>> shard::attach(engine::branch what) {
  visits::one under_way{visits_};
  auto at = slots_.find(what.at);
  if (at == slots_.end()) {
    co_return fail(ec::not_found, "no slot " + std::to_string(what.at));
  }
  if (disks_.contains(what.overlay)) {
    co_return fail(ec::conflict, "overlay " + what.overlay.text() + " is there already");
  }
  std::shared_ptr<const block_index> below;
  if (what.parent) {
    auto index = indexes_.get(what.parent);
    if (index.has_error()) {
      co_return index.error();
    }
    below = std::move(*index);
  }
  auto& made = disks_[what.overlay];
  made.parent = what.parent;
  made.at = what.at;
  made.content = std::make_unique<overlay>(ring_, files_, std::move(below),
                                           overlay::place{what.overlay, overlay_file(what.overlay),
                                                          limits::disk_bytes, what.own_bytes_max});
  at->second->connection->point_to(made.content.get());
  co_return result<void>{};
}

task<void> shard::detach(disk& from) {
  if (auto at = slots_.find(std::exchange(from.at, 0)); at != slots_.end()) {
    at->second->connection->point_to(nullptr);
    idle ended{*at->second};
    co_await ended;
  }
}

task<result<sealed_image>> shard::seal(uuid overlay_id, unchanged_disk unchanged) {
  visits::one under_way{visits_};
  auto known = disks_.find(overlay_id);
  if (known == disks_.end()) {
    co_return fail(ec::not_found, "no overlay " + overlay_id.text());
  }
  if (!known->second.parent) {
    co_return fail(ec::conflict, "overlay " + overlay_id.text() + " stands on no image");
  }
  auto taken = std::move(known->second);
  disks_.erase(known);
  co_await detach(taken);
  auto sealed = co_await storage::seal(ring_, *taken.content, taken.parent, image_file(overlay_id),
                                       names_, unchanged);
  if (sealed && sealed->index) {
    indexes_.put(overlay_id, sealed->index);
  } else {
    taken.content.reset();
    co_await io::remove(ring_, overlay_file(overlay_id).string());
  }
  co_return sealed;
}

task<result<engine::discarded>> shard::discard(uuid overlay_id) {
  visits::one under_way{visits_};
  engine::discarded out;
  if (auto known = disks_.find(overlay_id); known != disks_.end()) {
    auto taken = std::move(known->second);
    disks_.erase(known);
    co_await detach(taken);
    if (const auto& had = taken.content->trouble()) {
      out = {had->text, had->code == make_error_code(ec::too_large)};
    }
  }
  // Both are tried, the file with the earlier name first, and the first failure is told. The second
  // is there where an image was sealed and its record never committed.
  auto of_overlay = co_await io::remove(ring_, overlay_file(overlay_id).string());
  auto of_image = co_await io::remove(ring_, image_file(overlay_id).string());
  indexes_.forget(overlay_id);
  if (of_overlay.has_error()) {
    co_return of_overlay.error();
  }
  if (of_image.has_error()) {
    co_return of_image.error();
  }
  co_return out;
}

task<void> shard::stop() {
  std::vector<engine::slot_number> open;
  for (const auto& [number, connection] : slots_) {
    open.push_back(number);
  }
  for (auto number : open) {
    co_await close_slot(number);
  }
  co_await visits_.ended();
  // Nobody can go on with what is left: a restart would remove it, but there may be none.
  std::vector<std::string> left;
  for (const auto& [id, d] : disks_) {
    left.push_back(overlay_file(id).string());
  }
  disks_.clear();
  for (const auto& file : left) {
    co_await io::remove(ring_, file);
  }
}

} // namespace coppice::storage
