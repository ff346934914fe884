#include "storage/disk/seal.hpp"

#include "storage/block_source.hpp"
#include "storage/disk/batch.hpp"
#include "storage/disk/superblock_change.hpp"
#include "storage/error.hpp"
#include "storage/ext4_superblock.hpp"
#include "storage/qcow2/sealed_file.hpp"
#include "storage/ring/io.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

namespace coppice::storage {

namespace {

/// Content is looked at in pieces of this many clusters.
constexpr cluster_number piece_clusters = 64;

using cluster = std::array<std::byte, cluster_bytes>;

std::uint64_t bytes_of(cluster_number clusters) {
  return std::uint64_t{clusters} << cluster_bits;
}

failure disk_failure(const overlay& disk, int error_number) {
  return disk.trouble() ? *disk.trouble()
                        : io_failure(error_number, "the disk of " + disk.where().id.text());
}

/// The first cluster of a disk, as the check of its superblock sees it.
class first_cluster final : public block_source {
public:
  first_cluster(const cluster& bytes, std::uint64_t disk_bytes)
      : bytes_{bytes}, disk_bytes_{disk_bytes} {}

  std::uint64_t size_bytes() const override {
    return disk_bytes_;
  }
  result<void> read(std::uint64_t offset_bytes, std::span<std::byte> out) override {
    if (offset_bytes > bytes_.size() || out.size() > bytes_.size() - offset_bytes) {
      return fail(ec::io, "only the first cluster is here");
    }
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset_bytes), out.size(),
                out.begin());
    return {};
  }

private:
  const cluster& bytes_;
  std::uint64_t disk_bytes_;
};

bool is_zeros(std::span<const std::byte> bytes) {
  return bytes.front() == std::byte{} &&
         std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

/// What to do with a written cluster.
enum class verdict : std::uint8_t { keep, drop, zeros };

verdict judge(std::span<const std::byte> own, std::span<const std::byte> below) {
  if (std::equal(own.begin(), own.end(), below.begin())) {
    return verdict::drop;
  }
  return is_zeros(own) ? verdict::zeros : verdict::keep;
}

task<result<void>> check_clean(overlay& disk, const cluster& first) {
  first_cluster source{first, disk.size_bytes()};
  co_return check_clean_ext4(source);
}

/// Gives back what a run of data clusters has in common with the image below.
task<result<void>> weed_run(overlay& disk, own_extent run, std::vector<std::byte>& own,
                            std::vector<std::byte>& below) {
  while (run.count > 0) {
    auto count = std::min(run.count, piece_clusters);
    auto bytes = bytes_of(count);
    auto own_piece = std::span{own}.first(bytes);
    auto below_piece = std::span{below}.first(bytes);
    auto error = co_await disk.read(bytes_of(run.guest), own_piece);
    if (error == 0) {
      error = co_await disk.read_below(bytes_of(run.guest), below_piece);
    }
    for (cluster_number i = 0; error == 0 && i < count;) {
      auto at = [&](cluster_number n) {
        return judge(own_piece.subspan(bytes_of(n), cluster_bytes),
                     below_piece.subspan(bytes_of(n), cluster_bytes));
      };
      auto what = at(i);
      auto end = i + 1;
      while (end < count && at(end) == what) {
        ++end;
      }
      if (what == verdict::drop) {
        error = co_await disk.drop(run.guest + i, end - i);
      } else if (what == verdict::zeros) {
        error = co_await disk.zero(bytes_of(run.guest + i), bytes_of(end - i));
      }
      i = end;
    }
    if (error != 0) {
      co_return disk_failure(disk, error);
    }
    run.guest += count;
    run.count -= count;
  }
  co_return result<void>{};
}

task<result<void>> weed(overlay& disk) {
  std::vector<std::byte> own(bytes_of(piece_clusters));
  std::vector<std::byte> below(bytes_of(piece_clusters));
  for (auto run : disk.written().extents()) {
    if (run.file == own_extent::zeros) {
      continue; // zero() has seen to it that something is below
    }
    auto done = co_await weed_run(disk, run, own, below);
    if (done.has_error()) {
      co_return done;
    }
  }
  co_return result<void>{};
}

/// Whether what is left to keep is no change that anybody made.
task<result<bool>> is_unchanged(overlay& disk, std::span<const own_extent> own,
                                const cluster& first) {
  if (own.empty()) {
    co_return true;
  }
  if (own.size() > 1 || own[0].guest != 0 || own[0].count != 1) {
    co_return false;
  }
  cluster before{};
  if (auto error = co_await disk.read_below(0, before); error != 0) {
    co_return disk_failure(disk, error);
  }
  co_return is_mount_bookkeeping(before, first);
}

/// The checksum of each data cluster, in guest order.
task<result<std::vector<std::uint32_t>>> checksums_of(overlay& disk,
                                                      std::span<const own_extent> own) {
  std::vector<std::uint32_t> out;
  std::vector<std::byte> bytes(bytes_of(piece_clusters));
  for (auto run : own) {
    if (run.file == own_extent::zeros) {
      continue;
    }
    while (run.count > 0) {
      auto count = std::min(run.count, piece_clusters);
      auto piece = std::span{bytes}.first(bytes_of(count));
      if (auto error = co_await disk.read(bytes_of(run.guest), piece); error != 0) {
        co_return disk_failure(disk, error);
      }
      for (cluster_number i = 0; i < count; ++i) {
        out.push_back(qcow2::checksum(piece.subspan(bytes_of(i), cluster_bytes)));
      }
      run.guest += count;
      run.count -= count;
    }
  }
  co_return out;
}

/// The cluster behind the last one that is in use.
cluster_number data_end_of(std::span<const own_extent> own, std::uint64_t disk_bytes) {
  auto end = qcow2::data_begin(disk_bytes);
  for (const auto& run : own) {
    if (run.file != own_extent::zeros) {
      end = std::max(end, run.file + run.count);
    }
  }
  return end;
}

task<result<void>> write_tables(ring& on, int fd, const qcow2::sealed_tables& tables,
                                const std::string& name) {
  // All together, and one sync for them and the data: until the rename it is no image.
  batch writes{on};
  for (const auto& t : tables.writes) {
    io_request r;
    r.what = io_request::call::write;
    r.fd = fd;
    r.offset = t.offset_bytes;
    r.buffer = const_cast<std::byte*>(t.bytes.data()); // the call only reads it
    r.length = t.bytes.size();
    writes.add(r);
  }
  co_await writes.all();
  for (std::size_t i = 0; i < writes.size(); ++i) {
    const auto& r = writes[i];
    if (r.result == static_cast<std::int64_t>(r.length)) {
      continue;
    }
    if (r.result < 0) {
      co_return io_failure(static_cast<int>(-r.result), "writing the tables of " + name);
    }
    // Cut short, as happens just before a disk is full: once more, to the end or to the reason.
    auto done = co_await io::write(on, fd, r.offset, tables.writes[i].bytes, name);
    if (done.has_error()) {
      co_return done;
    }
  }
  co_return co_await io::sync_data(on, fd, name);
}

} // namespace

task<result<sealed_image>> seal(ring& on, overlay& disk, const uuid& parent,
                                std::filesystem::path image_file, directory_sync& images,
                                unchanged_disk unchanged) {
  auto name = disk.where().file.string();
  if (disk.trouble()) {
    co_return *disk.trouble();
  }
  cluster first{};
  if (auto error = co_await disk.read(0, first); error != 0) {
    co_return disk_failure(disk, error);
  }
  auto clean = co_await check_clean(disk, first);
  if (clean.has_error()) {
    co_return clean.error();
  }
  auto weeded = co_await weed(disk);
  if (weeded.has_error()) {
    co_return weeded.error();
  }
  auto own = disk.written().extents();
  if (parent && unchanged == unchanged_disk::is_parent) {
    auto same = co_await is_unchanged(disk, own, first);
    if (same.has_error()) {
      co_return same.error();
    }
    if (*same) {
      co_return sealed_image{true, nullptr, 0};
    }
  }
  auto checksums = co_await checksums_of(disk, own);
  if (checksums.has_error()) {
    co_return checksums.error();
  }
  auto tables =
      qcow2::build_tables(disk.size_bytes(), parent ? std::optional{parent} : std::nullopt, own,
                          data_end_of(own, disk.size_bytes()), *checksums);
  auto ready = co_await disk.open_file(); // a run that only trimmed has none yet
  if (ready != 0) {
    co_return disk_failure(disk, ready);
  }
  auto written = co_await write_tables(on, disk.fd(), tables, name);
  if (written.has_error()) {
    co_return written.error();
  }
  auto status = co_await io::status(on, disk.fd(), name);
  if (status.has_error()) {
    co_return status.error();
  }
  auto renamed = co_await io::rename(on, name, image_file.string());
  if (renamed.has_error()) {
    co_return renamed.error();
  }
  auto named = co_await images.sync();
  if (named.has_error()) {
    co_await io::remove(on, image_file.string()); // who reads the folder must not take it for one
    co_return named.error();
  }
  auto index = parent ? block_index::of_child(disk.below(), disk.where().id, own)
                      : block_index::of_import(disk.where().id, own);
  co_return sealed_image{false, std::move(index), status->allocated_bytes};
}

} // namespace coppice::storage
