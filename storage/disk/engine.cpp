#include "storage/disk/engine.hpp"

#include "storage/blobs.hpp"
#include "storage/disk/import_seals.hpp"
#include "storage/disk/shard.hpp"
#include "storage/error.hpp"
#include "storage/ring/loop.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace coppice::storage {

namespace {

struct chosen_io {
  bool is_uring = false;
  std::string description;
};

result<chosen_io> choose_io(io_kind wanted) {
  if (wanted == io_kind::threads) {
    return chosen_io{false, "threads, as configured"};
  }
  auto obstacle = uring_obstacle();
  if (obstacle.empty()) {
    return chosen_io{true, "io_uring"};
  }
  if (wanted == io_kind::uring) {
    return fail(ec::io, "io_uring cannot be used: " + obstacle);
  }
  return chosen_io{false, "threads, which are slower: " + obstacle};
}

} // namespace

struct engine::impl {
  struct lane {
    std::unique_ptr<loop> thread;
    std::unique_ptr<shard> work; ///< made and destroyed on the loop's thread
  };

  impl(std::filesystem::path folder, index_cache::load load_index, std::size_t index_bytes_max)
      : images{std::move(folder)}, cache{std::move(load_index), index_bytes_max} {}

  lane& of_slot(slot_number number) {
    return lanes[number % lanes.size()];
  }

  /// The loop of an overlay. Whatever has no slot (an import's file) is looked for by the first.
  lane& of_overlay(const uuid& id, bool is_the_end) {
    std::lock_guard lock{mutex};
    auto known = lane_of.find(id);
    if (known == lane_of.end()) {
      return lanes.front();
    }
    auto& found = lanes[known->second];
    if (is_the_end) {
      lane_of.erase(known);
    }
    return found;
  }

  /// The loop that works on the file of an image itself.
  lane& of_file(const uuid& image) {
    return lanes[std::hash<uuid>{}(image) % lanes.size()];
  }

  void discard(const uuid& overlay, answer<discarded> then) {
    auto& found = of_overlay(overlay, true);
    found.thread->post([&found, overlay, then = std::move(then)]() mutable {
      storage::start(found.work->discard(overlay), std::move(then));
    });
  }

  /// Starts `make(blobs)` on their loop.
  template <class Make, class Then>
  void on_blobs(Make make, Then then) {
    blob_loop().post([this, make = std::move(make), then = std::move(then)]() mutable {
      storage::start(make(*blob_files), std::move(then));
    });
  }
  /// The last: others' work begins with the first.
  loop& blob_loop() {
    return *lanes.back().thread;
  }

  std::filesystem::path images;
  index_cache cache;
  std::vector<lane> lanes;
  std::unique_ptr<blobs> blob_files; ///< lives on blob_loop()
  import_seals imports{[this](const uuid& image) {
                         auto& mine = of_file(image);
                         return import_seals::place{*mine.thread, *mine.work};
                       },
                       cache};
  std::string description;
  std::atomic<slot_number> slots{0};
  std::mutex mutex;
  std::unordered_map<uuid, std::size_t> lane_of;
};

engine::engine(std::unique_ptr<impl> state) : impl_{std::move(state)} {}

result<std::unique_ptr<engine>> engine::start(std::filesystem::path images,
                                              index_cache::load load_index, options how) {
  auto io = choose_io(how.io);
  if (io.has_error()) {
    return io.error();
  }
  auto state =
      std::make_unique<impl>(std::move(images), std::move(load_index), how.index_bytes_max);
  state->description = io->description;
  auto count = how.loops != 0 ? how.loops : std::max(1u, std::thread::hardware_concurrency());
  for (unsigned number = 0; number < count; ++number) {
    auto requests = io->is_uring ? make_uring() : make_thread_ring();
    if (how.wrap_ring) {
      requests = how.wrap_ring(std::move(requests));
    }
    auto thread = std::make_unique<loop>(std::move(requests), number);
    auto work = std::make_unique<shard>(thread->requests(), state->images, state->cache,
                                        how.sealed_files_open_max);
    state->lanes.push_back({std::move(thread), std::move(work)});
  }
  state->blob_files = std::make_unique<blobs>(
      state->blob_loop().requests(), blobs::settings{how.blobs, how.uploads, how.blob_bytes_max});
  return std::unique_ptr<engine>{new engine{std::move(state)}};
}

engine::~engine() {
  stop();
}

void engine::stop() {
  impl_->imports.stop();
  if (auto& last = impl_->lanes.back(); last.thread) {
    std::promise<void> ended;
    last.thread->post([&]() {
      storage::start([](blobs& work, std::promise<void>& told) -> task<void> {
        co_await work.stop();
        told.set_value();
      }(*impl_->blob_files, ended));
    });
    ended.get_future().wait();
  }
  for (auto& lane : impl_->lanes) {
    if (!lane.thread) {
      continue;
    }
    std::promise<void> ended;
    lane.thread->post([&]() {
      storage::start([](shard& work, std::promise<void>& told) -> task<void> {
        co_await work.stop();
        told.set_value();
      }(*lane.work, ended));
    });
    ended.get_future().wait();
    lane.thread.reset();
    lane.work.reset();
  }
}

result<engine::slot> engine::open_slot() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return io_failure(errno, "cannot make the socket of a disk");
  }
  auto number = ++impl_->slots;
  auto& lane = impl_->of_slot(number);
  lane.thread->post([&lane, number, socket = ends[0]]() { lane.work->open_slot(number, socket); });
  return slot{number, ends[1]};
}

void engine::close_slot(slot_number number) {
  auto& lane = impl_->of_slot(number);
  lane.thread->post([&lane, number]() { storage::start(lane.work->close_slot(number)); });
}

void engine::attach(const branch& what, answer<void> then) {
  auto& lane = impl_->of_slot(what.at);
  {
    std::lock_guard lock{impl_->mutex};
    impl_->lane_of.emplace(what.overlay, what.at % impl_->lanes.size());
  }
  lane.thread->post([&lane, what, then = std::move(then)]() mutable {
    storage::start(lane.work->attach(what), std::move(then));
  });
}

void engine::seal(const uuid& overlay, answer<sealed_image> then, unchanged_disk unchanged) {
  auto& lane = impl_->of_overlay(overlay, true);
  lane.thread->post([&lane, overlay, then = std::move(then), unchanged]() mutable {
    storage::start(lane.work->seal(overlay, unchanged), std::move(then));
  });
}

void engine::seal_import(const uuid& image, answer<sealed_image> then) {
  impl_->imports.seal(image, std::move(then));
}

void engine::discard(const uuid& overlay, answer<discarded> then) {
  auto work = [this, overlay, then = std::move(then)]() {
    impl_->discard(overlay, then);
  };
  if (!impl_->imports.give_up(overlay, work)) {
    work();
  }
}

void engine::begin_blob(answer<std::uint64_t> then) {
  impl_->on_blobs([](blobs& of) { return of.begin(); }, std::move(then));
}

void engine::append_blob(std::uint64_t upload, std::vector<std::byte> data, answer<void> then) {
  impl_->on_blobs([upload, data = std::move(data)](
                      blobs& of) mutable { return of.append(upload, std::move(data)); },
                  std::move(then));
}

void engine::finish_blob(std::uint64_t upload, answer<stored_blob> then) {
  impl_->on_blobs([upload](blobs& of) { return of.finish(upload); }, std::move(then));
}

void engine::abort_blob(std::uint64_t upload, answer<void> then) {
  impl_->on_blobs([upload](blobs& of) { return of.abort(upload); }, std::move(then));
}

void engine::read_blob(const stored_blob::sha256& digest, std::uint64_t offset_bytes,
                       std::size_t bytes_max, answer<std::vector<std::byte>> then) {
  impl_->on_blobs([=](blobs& of) { return of.read(digest, offset_bytes, bytes_max); },
                  std::move(then));
}

void engine::read_file(const uuid& image, std::uint64_t offset_bytes, std::size_t bytes_max,
                       answer<file_piece> then) {
  auto& lane = impl_->of_file(image);
  lane.thread->post([&lane, image, offset_bytes, bytes_max, then = std::move(then)]() mutable {
    storage::start(lane.work->read_file(image, offset_bytes, bytes_max), std::move(then));
  });
}

void engine::punch(const uuid& image, std::vector<own_extent> clusters,
                   answer<std::uint64_t> then) {
  auto& lane = impl_->of_file(image);
  lane.thread->post(
      [&lane, image, clusters = std::move(clusters), then = std::move(then)]() mutable {
        storage::start(lane.work->punch(image, std::move(clusters)), std::move(then));
      });
}

void engine::remove_file(const uuid& image, answer<std::uint64_t> then) {
  impl_->cache.forget(image);
  auto& mine = impl_->of_file(image);
  for (auto& lane : impl_->lanes) {
    if (&lane != &mine) {
      lane.thread->post([&lane, image]() { lane.work->forget_file(image); });
    }
  }
  mine.thread->post([&mine, image, then = std::move(then)]() mutable {
    mine.work->forget_file(image);
    storage::start(mine.work->remove_file(image), std::move(then));
  });
}

void engine::put_index(const uuid& image, std::shared_ptr<const block_index> index) {
  impl_->cache.put(image, std::move(index));
}

index_cache& engine::indexes() {
  return impl_->cache;
}

const std::string& engine::io_description() const {
  return impl_->description;
}

} // namespace coppice::storage
