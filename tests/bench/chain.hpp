#pragma once

#include "protocol/limits.hpp"
#include "storage/catalog.hpp"
#include "storage/disk/engine.hpp"
#include "storage/disk/nbd_client.hpp"
#include "storage/store.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

/// What the storage benchmarks share: a store with an engine in this process, and figures.
namespace coppice::bench {

[[noreturn]] inline void die(const std::string& why) {
  std::fprintf(stderr, "storage_bench: %s\n", why.c_str());
  std::exit(1);
}

template <class T>
T must(result<T> outcome) {
  if (outcome.has_error()) {
    die(outcome.error().text);
  }
  if constexpr (!std::is_void_v<T>) {
    return std::move(*outcome);
  }
}

using clock = std::chrono::steady_clock;

inline double us_since(clock::time_point start) {
  return std::chrono::duration<double, std::micro>(clock::now() - start).count();
}

/// Times of one thing, in microseconds.
class samples {
public:
  void add(double us) {
    values_.push_back(us);
  }
  double median() const {
    auto sorted = values_;
    std::sort(sorted.begin(), sorted.end());
    return sorted.empty() ? 0 : sorted[sorted.size() / 2];
  }
  /// A row of the table: name, n, median, least, greatest.
  void print(const char* name) const {
    auto [least, greatest] = std::minmax_element(values_.begin(), values_.end());
    std::printf("%-52s %5zu %12.1f %12.1f %12.1f\n", name, values_.size(), median(), *least,
                *greatest);
  }
  static void print_head() {
    std::printf("%-52s %5s %12s %12s %12s\n", "us", "n", "median", "least", "greatest");
  }

private:
  std::vector<double> values_;
};

inline void bar(const char* name, double figure, double limit, bool less_is_good) {
  auto good = less_is_good ? figure <= limit : figure >= limit;
  std::printf("bar: %s %.3f %.3f %s\n", name, figure, limit, good ? "ok" : "short");
}

/// A store, its catalog and an engine over it.
struct workshop {
  explicit workshop(const std::filesystem::path& state)
      : dir{state}, files{must(storage::store::open(state))}, catalog{must(storage::catalog::open(
                                                                  state / "catalog"))} {
    start_engine();
  }

  void start_engine() {
    // One loop: two that lie on different cores differ by more than what is compared here.
    storage::engine::options how;
    how.loops = 1;
    engine = must(storage::engine::start(
        dir / "images", [this](const uuid& image) { return catalog->get_index(image); }, how));
  }

  template <class T, class Ask>
  T wait(Ask&& ask) {
    std::promise<result<T>> told;
    ask([&](result<T> given) { told.set_value(std::move(given)); });
    return must(told.get_future().get());
  }

  void attach(const storage::engine::branch& what) {
    std::promise<result<void>> told;
    engine->attach(what, [&](result<void> given) { told.set_value(std::move(given)); });
    must(told.get_future().get());
  }
  storage::sealed_image seal(const uuid& overlay) {
    return wait<storage::sealed_image>([&](auto then) { engine->seal(overlay, std::move(then)); });
  }
  storage::sealed_image seal_import(const uuid& image) {
    return wait<storage::sealed_image>(
        [&](auto then) { engine->seal_import(image, std::move(then)); });
  }

  void record(const uuid& image, const uuid& parent, const storage::sealed_image& sealed) {
    auto in = must(catalog->begin());
    auto made = make_frame<proto::ImageRecord>([&](auto r) {
      image.to(r.initId());
      r.setProject("bench");
      if (parent) {
        parent.to(r.initParent());
      }
      r.setSizeBytes(sealed.own_bytes);
    });
    auto index = make_frame<proto::ImageIndex>([&](auto r) {
      sealed.index->checkpoint().to(r.initCheckpoint());
      auto bytes = sealed.index->encode();
      r.setExtents({reinterpret_cast<const capnp::byte*>(bytes.data()), bytes.size()});
    });
    auto record_view = made.view();
    auto index_view = index.view();
    must(in.put_image(*record_view, *index_view));
    must(in.commit());
  }

  std::filesystem::path dir;
  std::unique_ptr<storage::store> files;
  std::unique_ptr<storage::catalog> catalog;
  std::unique_ptr<storage::engine> engine;
};

} // namespace coppice::bench
