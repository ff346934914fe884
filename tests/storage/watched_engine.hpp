#pragma once

#include "storage/disk/engine.hpp"
#include "tests/storage/disk_fixture.hpp"
#include "tests/storage/engine_calls.hpp"
#include "tests/support/faulty_ring.hpp"

#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>

namespace coppice::storage::test {

/// An engine of one loop whose ring does what the test says; of many, it is the last one's.
struct watched_engine : disk_fixture {
  explicit watched_engine(unsigned loops = 1) {
    std::filesystem::create_directory(state / "blobs");
    std::filesystem::create_directory(state / "uploads");
    auto how = options_in(state.path());
    how.loops = loops;
    how.wrap_ring = [this](std::unique_ptr<ring> made) {
      auto wrapped = std::make_unique<faulty_ring>(std::move(made));
      ring_ = wrapped.get();
      return wrapped;
    };
    disks = start_engine(dir.path(), how);
    base(made_elsewhere, {{5, 1}, {6, 2}, {70'000, 3}});
    disks->put_index(image, base(image, {{5, 1}}));
  }
  ~watched_engine() {
    if (ring_ != nullptr) {
      release();
    }
  }

  /// The ring is its loop's: it is spoken to there.
  void on_loop(const std::function<void(faulty_ring&)>& what) {
    // Of an upload that never was: its answer is all that is wanted.
    BOOST_REQUIRE(answer_of<void>([&](auto then) {
      disks->abort_blob(0, [&, then = std::move(then)](result<void> done) {
        what(*ring_);
        then(std::move(done));
      });
    }));
  }
  void release() {
    on_loop([](faulty_ring& ring) {
      ring.calm();
      ring.release();
    });
  }
  std::size_t held() {
    std::size_t out = 0;
    on_loop([&](faulty_ring& ring) { out = ring.held(); });
    return out;
  }
  void wait_until_held() {
    while (held() == 0) {
      std::this_thread::yield();
    }
  }
  void hold(const faulty_ring::predicate& which) {
    on_loop([&](faulty_ring& ring) { ring.hold(which, 1); });
  }

  /// Stops the engine while something is held, which cannot end before it is released.
  void stop_while_held() {
    wait_until_held();
    std::thread releasing{[this] {
      release();
    }};
    disks->stop();
    releasing.join();
    ring_ = nullptr;
  }

  /// What the worker of an import leaves.
  uuid import(const uuid& id = uuid::random()) {
    std::filesystem::create_hard_link(file_of(made_elsewhere), file_of(id, ".overlay"));
    return id;
  }

  std::size_t files_in_images() const {
    std::size_t out = 0;
    for (const auto& each : std::filesystem::directory_iterator{dir.path()}) {
      static_cast<void>(each);
      ++out;
    }
    return out;
  }

  scratch state;
  uuid image = uuid::random();
  uuid made_elsewhere = uuid::random();
  std::unique_ptr<engine> disks;

private:
  faulty_ring* ring_ = nullptr;
};

} // namespace coppice::storage::test
