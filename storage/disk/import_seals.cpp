#include "storage/disk/import_seals.hpp"

#include "protocol/limits.hpp"
#include "storage/disk/engine_bytes.hpp"
#include "storage/disk/shard.hpp"
#include "storage/error.hpp"
#include "storage/ext4_superblock.hpp"
#include "storage/qcow2/reader.hpp"
#include "storage/qcow2/sealed_file.hpp"
#include "storage/ring/loop.hpp"
#include "storage/ring/signals.hpp"

#include <pthread.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>
#include <utility>

namespace coppice::storage {

namespace {

/// Nobody but the daemon's user may write to a sealed image, and that user only by changing it.
constexpr mode_t sealed_mode = 0400;

const char* const stopped_text = "the seal of an import was stopped";

/// What the worker has left, if it may become an image: its clusters.
result<std::vector<own_extent>> check_content(std::unique_ptr<qcow2::byte_source> bytes) {
  const auto name = bytes->name();
  auto content = qcow2::read_sealed(*bytes);
  if (!content) {
    return content.error();
  }
  if (content->parent) {
    return fail(ec::damaged,
                name + ": its backing file is " + content->parent->text() + ", expected none");
  }
  if (content->disk_bytes != limits::disk_bytes) {
    return fail(ec::damaged, name + ": its disk has " + std::to_string(content->disk_bytes) +
                                 " bytes, expected " + std::to_string(limits::disk_bytes));
  }
  auto disk = qcow2::reader::open(
      std::move(bytes), [](const uuid& image) -> result<std::unique_ptr<qcow2::byte_source>> {
        return fail(ec::damaged, "an import has no parent " + image.text());
      });
  if (!disk) {
    return disk.error();
  }
  if (auto clean = check_clean_ext4(**disk); !clean) {
    return failure{clean.error().code, name + ": " + clean.error().text};
  }
  return std::move(content->own);
}

} // namespace

struct import_seals::job {
  uuid image;
  answer then;
  std::atomic<bool> is_stopped{false};
  std::vector<std::function<void()>> afterwards; ///< under the mutex, until it is answered
};

import_seals::import_seals(places of, index_cache& indexes)
    : places_{std::move(of)}, indexes_{indexes} {}

import_seals::~import_seals() = default;

void import_seals::seal(const uuid& image, answer then) {
  auto made = std::make_shared<job>();
  made->image = image;
  made->then = std::move(then);
  std::lock_guard lock{mutex_};
  const auto is_full = outstanding_ >= outstanding_max;
  if (is_full || !unanswered_.emplace(image, made).second) {
    auto why = is_full ? fail(ec::too_large, "too many imports are being sealed: try again later")
                       : fail(ec::conflict, "image " + image.text() + " is being sealed already");
    places_(image).thread.post([made, why]() { made->then(why); });
    return;
  }
  ++outstanding_;
  line_.push_back(std::move(made));
  if (!thread_.joinable()) {
    without_signals guard;
    thread_ = std::thread{[this]() {
      work();
    }};
    ::pthread_setname_np(thread_.native_handle(), "import-seal");
  }
  changed_.notify_all();
}

bool import_seals::give_up(const uuid& image, std::function<void()> work) {
  std::lock_guard lock{mutex_};
  auto known = unanswered_.find(image);
  if (known == unanswered_.end()) {
    return false;
  }
  known->second->is_stopped = true;
  known->second->afterwards.push_back(std::move(work));
  return true;
}

void import_seals::stop() {
  {
    std::lock_guard lock{mutex_};
    is_stopped_ = true;
    for (auto& [image, each] : unanswered_) {
      each->is_stopped = true;
    }
    changed_.notify_all();
  }
  if (thread_.joinable()) {
    thread_.join();
  }
  std::unique_lock lock{mutex_};
  changed_.wait(lock, [this]() { return outstanding_ == 0; });
}

void import_seals::work() {
  std::unique_lock lock{mutex_};
  for (;;) {
    changed_.wait(lock, [this]() { return is_stopped_ || !line_.empty(); });
    if (line_.empty()) {
      return;
    }
    auto next = std::move(line_.front());
    line_.pop_front();
    lock.unlock();
    run(next);
    next.reset();
    lock.lock();
  }
}

void import_seals::run(const std::shared_ptr<job>& of) {
  auto at = places_(of->image);
  auto opened = wait_for<import_file>([&](engine::answer<import_file> then) {
    at.thread.post([at, image = of->image, then = std::move(then)]() mutable {
      start(at.work.open_import(image), std::move(then));
    });
  });
  result<std::shared_ptr<const block_index>> checked = nullptr;
  if (opened) {
    checked = check(*of, *opened, at);
  }
  at.thread.post([this, of, at, opened, checked]() {
    auto then = [this, of](result<sealed_image> outcome) {
      answer_to(*of, std::move(outcome));
    };
    if (!opened) {
      then(opened.error());
    } else if (!checked) {
      start(at.work.close_import(*opened, checked.error()), std::move(then));
    } else {
      start(at.work.name_import(of->image, *opened, *checked), std::move(then));
    }
  });
}

result<std::shared_ptr<const block_index>> import_seals::check(const job& of, import_file& from,
                                                               place at) {
  auto bytes = engine_bytes::open(
      from.name,
      [at, from](std::uint64_t offset_bytes, std::size_t bytes_max,
                 engine::answer<engine::file_piece> then) {
        at.thread.post([at, from, offset_bytes, bytes_max, then = std::move(then)]() mutable {
          start(at.work.read_import(from, offset_bytes, bytes_max), std::move(then));
        });
      },
      of.is_stopped, stopped_text);
  if (!bytes) {
    return bytes.error();
  }
  auto own = check_content(std::move(*bytes));
  if (!own) {
    return own.error();
  }
  if (of.is_stopped) {
    return fail(ec::conflict, stopped_text); // nobody waits for its sync
  }
  if (::fchmod(from.fd, sealed_mode) != 0) {
    return io_failure(errno, "cannot change the mode of " + from.name);
  }
  return block_index::of_import(of.image, *own);
}

void import_seals::answer_to(const job& of, result<sealed_image> outcome) {
  if (outcome) {
    indexes_.put(of.image, outcome->index);
  }
  {
    std::lock_guard lock{mutex_};
    unanswered_.erase(of.image); // from here on it may be sealed again, and not be given up
  }
  of.then(std::move(outcome));
  for (const auto& next : of.afterwards) {
    next();
  }
  std::lock_guard lock{mutex_};
  --outstanding_;
  changed_.notify_all();
}

} // namespace coppice::storage
