#include "storage/qcow2/sealed_file.hpp"

#include "storage/error.hpp"
#include "storage/qcow2/sealed_layout.hpp"

#include <algorithm>
#include <string>

namespace coppice::storage::qcow2 {

namespace {

/// Data that is read in one call: 1 MiB.
constexpr std::uint64_t batch_clusters = 256;

/// The clusters that were given back, ascending and disjoint, also where a list names some twice.
std::vector<cluster_run> holes_of(std::span<const own_extent> punched) {
  std::vector<cluster_run> out;
  for (const auto& run : data_runs(punched)) {
    if (!out.empty() && run.first <= out.back().end()) {
      out.back().count = std::max(run.end(), out.back().end()) - out.back().first;
    } else {
      out.push_back(run);
    }
  }
  return out;
}

/// The first clusters from `at` on that are in none of the holes.
cluster_run next_kept(std::span<const cluster_run> holes, std::uint64_t at, std::uint64_t end) {
  auto hole = std::upper_bound(
      holes.begin(), holes.end(), at,
      [](std::uint64_t place, const cluster_run& run) { return place < run.end(); });
  if (hole != holes.end() && hole->first <= at) {
    at = hole->end();
    ++hole;
  }
  auto until = hole == holes.end() ? end : std::min(end, hole->first);
  return {at, until > at ? until - at : 0};
}

} // namespace

result<void> verify_content(const byte_source& source, const sealed_content& content,
                            const std::vector<own_extent>& punched) {
  auto holes = holes_of(punched);
  std::vector<std::byte> batch(batch_clusters * cluster_bytes_written);
  std::size_t before = 0; // checksums of the extents before this one
  for (const auto& extent : content.own) {
    if (extent.file == own_extent::zeros) {
      continue;
    }
    auto end = std::uint64_t{extent.file} + extent.count;
    for (std::uint64_t at = extent.file;;) {
      auto kept = next_kept(holes, at, end);
      if (kept.count == 0) {
        break;
      }
      auto count = std::min(kept.count, batch_clusters);
      auto bytes = std::span{batch}.first(static_cast<std::size_t>(count * cluster_bytes_written));
      if (auto done = source.read(kept.first * cluster_bytes_written, bytes); !done) {
        return done;
      }
      for (std::uint64_t i = 0; i < count; ++i) {
        auto one = bytes.subspan(static_cast<std::size_t>(i * cluster_bytes_written),
                                 static_cast<std::size_t>(cluster_bytes_written));
        auto index = before + static_cast<std::size_t>(kept.first + i - extent.file);
        if (checksum(one) != content.checksums[index]) {
          return fail(ec::damaged, source.name() + ": the data at " +
                                       std::to_string((kept.first + i) * cluster_bytes_written) +
                                       " is not what was sealed: its checksum differs");
        }
      }
      at = kept.first + count;
    }
    before += extent.count;
  }
  return {};
}

} // namespace coppice::storage::qcow2
