#include "storage/reclaimer.hpp"

#include "storage/error.hpp"
#include "storage/qcow2/sealed_file.hpp"

#include <algorithm>
#include <future>
#include <string>
#include <utility>
#include <vector>

namespace coppice::storage {

namespace {

/// One call to the engine: a moment of work, so that a stop is not kept waiting.
constexpr std::size_t runs_at_once = 256;
constexpr std::uint64_t clusters_at_once = (64u << 20) / cluster_bytes;

/// Tables lie together: few calls get them all.
constexpr std::uint64_t piece_bytes = 256u << 10;

failure stopped() {
  return fail(ec::conflict, "reclaiming was stopped; it goes on at the next start");
}

/// Asks the engine and waits. `ask` gets the answer to hand over.
template <class T, class Ask>
result<T> wait_for(Ask&& ask) {
  auto told = std::make_shared<std::promise<result<T>>>();
  auto answer = told->get_future();
  ask(engine::answer<T>{[told](result<T> given) {
    told->set_value(std::move(given));
  }});
  return answer.get();
}

/// A sealed file, read by the engine a piece at a time.
class engine_bytes final : public qcow2::byte_source {
public:
  static result<std::unique_ptr<engine_bytes>> open(engine& disks, const uuid& image,
                                                    const std::atomic<bool>& is_stopped) {
    std::unique_ptr<engine_bytes> made{new engine_bytes{disks, image, is_stopped}};
    if (auto done = made->load(0); !done) {
      return done.error();
    }
    return made;
  }

  const std::string& name() const override {
    return name_;
  }
  std::uint64_t size_bytes() const override {
    return piece_.file_bytes;
  }

  result<void> read(std::uint64_t offset_bytes, std::span<std::byte> out) const override {
    while (!out.empty()) {
      const auto begin = offset_bytes / piece_bytes * piece_bytes;
      if (begin != begin_) {
        if (auto done = load(begin); !done) {
          return done;
        }
      }
      const auto within = static_cast<std::size_t>(offset_bytes - begin);
      const auto here = std::min(out.size(), static_cast<std::size_t>(piece_bytes) - within);
      const auto there = piece_.bytes.size() - std::min(piece_.bytes.size(), within);
      const auto copied = std::min(here, there);
      std::copy_n(piece_.bytes.begin() + static_cast<std::ptrdiff_t>(piece_.bytes.size() - there),
                  copied, out.begin());
      std::fill_n(out.begin() + static_cast<std::ptrdiff_t>(copied), here - copied, std::byte{0});
      offset_bytes += here;
      out = out.subspan(here);
    }
    return {};
  }

private:
  engine_bytes(engine& disks, const uuid& image, const std::atomic<bool>& is_stopped)
      : disks_{disks}, image_{image}, name_{image.text() + ".qcow2"}, is_stopped_{is_stopped} {}

  result<void> load(std::uint64_t begin) const {
    if (is_stopped_) {
      return stopped();
    }
    auto piece = wait_for<engine::file_piece>([&](engine::answer<engine::file_piece> then) {
      disks_.read_file(image_, begin, piece_bytes, std::move(then));
    });
    if (!piece) {
      return piece.error();
    }
    piece_ = std::move(*piece);
    begin_ = begin;
    return {};
  }

  engine& disks_;
  uuid image_;
  std::string name_;
  const std::atomic<bool>& is_stopped_;
  mutable engine::file_piece piece_;
  mutable std::uint64_t begin_ = 0;
};

} // namespace

file_family family_in(const catalog& records, index_cache& indexes) {
  return {[&records](const uuid& image) -> result<std::vector<uuid>> {
            std::vector<uuid> all;
            for (;;) {
              auto page = records.list_child_files(image, all.empty() ? uuid{} : all.back());
              if (!page || page->empty()) {
                return page ? result<std::vector<uuid>>{std::move(all)} : page;
              }
              all.insert(all.end(), page->begin(), page->end());
            }
          },
          [&records](const uuid& image) { return records.has_image(image); },
          [&indexes](const uuid& image) {
            return indexes.get_in_passing(image);
          }};
}

reclaimer::reclaimer(std::shared_ptr<const catalog> records, std::shared_ptr<engine> disks)
    : records_{std::move(records)}, disks_{std::move(disks)} {}

void reclaimer::stop() {
  is_stopped_ = true;
}

result<std::uint64_t> reclaimer::remove(const uuid& image) {
  if (is_stopped_) {
    return stopped();
  }
  if (records_->has_image_file(image)) {
    return fail(ec::conflict, "the file of image " + image.text() + " is needed");
  }
  return wait_for<std::uint64_t>(
      [&](engine::answer<std::uint64_t> then) { disks_->remove_file(image, std::move(then)); });
}

result<std::uint64_t> reclaimer::punch(const uuid& image) {
  if (records_->has_image(image) || !records_->has_image_file(image)) {
    return std::uint64_t{0};
  }
  auto bytes = engine_bytes::open(*disks_, image, is_stopped_);
  if (!bytes) {
    return bytes.error();
  }
  auto content = qcow2::read_sealed(**bytes);
  if (!content) {
    return content.error();
  }
  auto family = family_in(*records_, disks_->indexes());
  family.index_of = [this, of = std::move(family.index_of)](
                        const uuid& live) -> result<std::shared_ptr<const block_index>> {
    if (is_stopped_) {
      return stopped();
    }
    return of(live);
  };
  auto unseen = unseen_clusters(image, content->own, family);
  if (!unseen) {
    return unseen.error();
  }
  return punch_all(image, *unseen);
}

result<std::uint64_t> reclaimer::punch_all(const uuid& image,
                                           const std::vector<own_extent>& clusters) {
  std::uint64_t freed = 0;
  for (auto at = clusters.begin(); at != clusters.end();) {
    if (is_stopped_) {
      return stopped();
    }
    std::vector<own_extent> some;
    for (std::uint64_t sum = 0;
         at != clusters.end() && some.size() < runs_at_once && sum < clusters_at_once; ++at) {
      some.push_back(*at);
      sum += at->count;
    }
    auto done = wait_for<std::uint64_t>([&](engine::answer<std::uint64_t> then) {
      disks_->punch(image, std::move(some), std::move(then));
    });
    if (!done) {
      return done.error();
    }
    freed += *done;
  }
  return freed;
}

} // namespace coppice::storage
