#include "storage/qcow2/writer.hpp"

#include "storage/error.hpp"
#include "storage/file.hpp"
#include "storage/qcow2/format.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace coppice::storage::qcow2 {

namespace {

constexpr std::uint64_t cluster_bytes = cluster_bytes_written;
constexpr std::uint64_t l2_entries = cluster_bytes / entry_bytes;
constexpr std::uint64_t l2_covers = l2_entries * cluster_bytes;

constexpr std::uint64_t refcount_bytes = (1u << refcount_order_written) / 8;
constexpr std::uint64_t refcounts_in_block = cluster_bytes / refcount_bytes;

/// Guest clusters that are read and written in one call.
constexpr std::size_t batch_bytes = 16 * cluster_bytes;

/// The smallest number of refcount blocks that also count themselves and their table.
struct refcount_layout {
  std::uint64_t blocks = 0;
  std::uint64_t table_clusters = 0;
};

constexpr refcount_layout refcounts_for(std::uint64_t other_clusters) {
  refcount_layout out{1, 1};
  for (;;) {
    auto clusters = other_clusters + out.blocks + out.table_clusters;
    auto blocks = divide_up(clusters, refcounts_in_block);
    auto table_clusters = divide_up(blocks * entry_bytes, cluster_bytes);
    if (blocks == out.blocks && table_clusters == out.table_clusters) {
      return out;
    }
    out = {blocks, table_clusters};
  }
}

static_assert(refcounts_for(refcounts_in_block - 2).blocks == 1);
static_assert(refcounts_for(refcounts_in_block - 1).blocks == 2);

bool is_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

header new_header(std::uint64_t disk_bytes) {
  header out;
  out.disk_bytes = disk_bytes;
  out.l1_entries = static_cast<std::uint32_t>(l1_entries_for(disk_bytes, out.cluster_bits));
  return out;
}

std::uint64_t l1_clusters_of(const header& h) {
  return divide_up(std::uint64_t{h.l1_entries} * entry_bytes, cluster_bytes);
}

result<void> check_disk_size(std::uint64_t disk_bytes, const std::filesystem::path& path) {
  if (disk_bytes == 0 || disk_bytes % 512 != 0) {
    return fail(ec::unsupported, path.string() + ": a disk of " + std::to_string(disk_bytes) +
                                     " bytes is not a whole number of sectors");
  }
  if (disk_bytes > disk_bytes_max) {
    return fail(ec::too_large, path.string() + ": a disk of " + std::to_string(disk_bytes) +
                                   " bytes is more than " + std::to_string(disk_bytes_max));
  }
  return {};
}

/// Runs `write` on a new file and removes the file again if that fails.
template <class Write>
result<void> with_new_file(const std::filesystem::path& path, Write&& write) {
  auto out = file::open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
  if (!out) {
    return out.error();
  }
  auto written = write(*out);
  if (!written) {
    static_cast<void>(remove_file(path)); // the first failure is the one to tell
  }
  return written;
}

/// Writes refcount blocks and table for `clusters` clusters in use, from the start of the file, and
/// themselves; they follow those clusters. Fills in the header's place of the table.
result<void> write_refcounts(file& out, std::uint64_t clusters, header& head) {
  auto layout = refcounts_for(clusters);
  auto in_use = clusters + layout.blocks + layout.table_clusters;
  std::vector<std::byte> table(static_cast<std::size_t>(layout.blocks * entry_bytes));
  std::vector<std::byte> block(static_cast<std::size_t>(cluster_bytes));
  for (std::uint64_t i = 0; i < layout.blocks; ++i) {
    auto at = (clusters + i) * cluster_bytes;
    auto counted = std::min(in_use - i * refcounts_in_block, refcounts_in_block);
    for (std::uint64_t j = 0; j < counted; ++j) {
      store_be(block, static_cast<std::size_t>(j * refcount_bytes), std::uint16_t{1});
    }
    auto used = std::span{block}.first(static_cast<std::size_t>(counted * refcount_bytes));
    if (auto done = out.write_at(at, used); !done) {
      return done;
    }
    store_be(table, static_cast<std::size_t>(i * entry_bytes), at);
  }
  head.refcount_table_offset = (clusters + layout.blocks) * cluster_bytes;
  head.refcount_table_clusters = static_cast<std::uint32_t>(layout.table_clusters);
  if (auto done = out.write_at(head.refcount_table_offset, table); !done) {
    return done;
  }
  return out.set_size(in_use * cluster_bytes);
}

// -- raw to qcow2
// ------------------------------------------------------------------------------------

/// One conversion. The file grows as header, L1, then data clusters and L2 tables in the order of
/// the disk, then reference counts; the header is written last.
class conversion {
public:
  conversion(const file& raw, std::uint64_t disk_bytes, file& out)
      : raw_{raw}, out_{out}, head_{new_header(disk_bytes)}, l1_(head_.l1_entries * entry_bytes),
        l2_(static_cast<std::size_t>(cluster_bytes)), batch_(batch_bytes) {}

  result<void> run();

private:
  result<std::uint64_t> next_data(std::uint64_t from) const;
  result<std::uint64_t> end_of_data(std::uint64_t from) const;
  result<void> copy_range(std::uint64_t from, std::uint64_t end);
  result<void> copy_batch(std::uint64_t from, std::size_t length);
  result<void> append_run(std::uint64_t disk_offset, std::span<const std::byte> bytes);
  result<void> finish_l2();

  const file& raw_;
  file& out_;
  header head_;
  std::vector<std::byte> l1_;
  std::vector<std::byte> l2_; ///< of the part of the disk that `l1_index_` stands for
  std::vector<std::byte> batch_;
  std::uint64_t l1_index_ = 0;
  bool l2_has_data_ = false;
  std::uint64_t clusters_ = 0; ///< used in `out_` so far
};

result<void> conversion::run() {
  head_.l1_offset = cluster_bytes;
  clusters_ = 1 + l1_clusters_of(head_);
  for (std::uint64_t at = 0; at < head_.disk_bytes;) {
    auto start = next_data(at);
    if (!start) {
      return start.error();
    }
    if (*start >= head_.disk_bytes) {
      break;
    }
    auto end = end_of_data(*start);
    if (!end) {
      return end.error();
    }
    auto from = *start / cluster_bytes * cluster_bytes;
    auto until = std::min(divide_up(*end, cluster_bytes) * cluster_bytes, head_.disk_bytes);
    // A cluster with two pieces of data in it was copied with the first.
    from = std::max(from, at);
    if (auto done = copy_range(from, until); !done) {
      return done;
    }
    at = until;
  }
  if (auto done = finish_l2(); !done) {
    return done;
  }
  if (auto done = out_.write_at(head_.l1_offset, l1_); !done) {
    return done;
  }
  if (auto done = write_refcounts(out_, clusters_, head_); !done) {
    return done;
  }
  return out_.write_at(0, encode_header(head_));
}

/// The end of the disk if only holes follow.
result<std::uint64_t> conversion::next_data(std::uint64_t from) const {
  auto found = ::lseek(raw_.fd(), static_cast<off_t>(from), SEEK_DATA);
  if (found < 0 && errno == ENXIO) {
    return head_.disk_bytes;
  }
  if (found < 0) {
    return io_failure(errno, "cannot look for data in " + raw_.path().string());
  }
  return static_cast<std::uint64_t>(found);
}

result<std::uint64_t> conversion::end_of_data(std::uint64_t from) const {
  auto found = ::lseek(raw_.fd(), static_cast<off_t>(from), SEEK_HOLE);
  if (found < 0) {
    return io_failure(errno, "cannot look for holes in " + raw_.path().string());
  }
  return std::min(static_cast<std::uint64_t>(found), head_.disk_bytes);
}

/// Precondition: `from` is the start of a cluster, `end` that of another or the end of the disk.
result<void> conversion::copy_range(std::uint64_t from, std::uint64_t end) {
  while (from < end) {
    auto l1_index = from / l2_covers;
    if (l1_index != l1_index_) {
      if (auto done = finish_l2(); !done) {
        return done;
      }
      l1_index_ = l1_index;
    }
    auto length = std::min(
        {end - from, (l1_index + 1) * l2_covers - from, static_cast<std::uint64_t>(batch_bytes)});
    if (auto done = copy_batch(from, static_cast<std::size_t>(length)); !done) {
      return done;
    }
    from += length;
  }
  return {};
}

result<void> conversion::copy_batch(std::uint64_t from, std::size_t length) {
  // The disk may end inside a cluster, the file has whole ones.
  auto whole = static_cast<std::size_t>(divide_up(length, cluster_bytes) * cluster_bytes);
  auto bytes = std::span{batch_}.first(whole);
  auto got = raw_.read_at(from, bytes.first(length));
  if (!got) {
    return got.error();
  }
  if (*got != length) {
    return fail(ec::io, raw_.path().string() + ": became shorter while it was read");
  }
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(length), bytes.end(), std::byte{0});
  std::size_t run_start = 0;
  for (std::size_t at = 0; at <= whole; at += cluster_bytes) {
    if (at < whole && !is_zero(bytes.subspan(at, cluster_bytes))) {
      continue;
    }
    if (auto done = append_run(from + run_start, bytes.subspan(run_start, at - run_start)); !done) {
      return done;
    }
    run_start = at + cluster_bytes;
  }
  return {};
}

/// Whole clusters, none of them zero, that follow each other on the disk.
result<void> conversion::append_run(std::uint64_t disk_offset, std::span<const std::byte> bytes) {
  if (bytes.empty()) {
    return {};
  }
  auto offset = clusters_ * cluster_bytes;
  if (auto done = out_.write_at(offset, bytes); !done) {
    return done;
  }
  auto index = disk_offset % l2_covers / cluster_bytes;
  for (std::uint64_t done = 0; done < bytes.size(); done += cluster_bytes, ++index) {
    store_be(l2_, static_cast<std::size_t>(index * entry_bytes), (offset + done) | entry_copied);
  }
  clusters_ += bytes.size() / cluster_bytes;
  l2_has_data_ = true;
  return {};
}

result<void> conversion::finish_l2() {
  if (!l2_has_data_) {
    return {};
  }
  auto offset = clusters_ * cluster_bytes;
  if (auto done = out_.write_at(offset, l2_); !done) {
    return done;
  }
  store_be(l1_, static_cast<std::size_t>(l1_index_ * entry_bytes), offset | entry_copied);
  ++clusters_;
  std::fill(l2_.begin(), l2_.end(), std::byte{0});
  l2_has_data_ = false;
  return {};
}

} // namespace

header overlay_header(const uuid& parent, std::uint64_t disk_bytes) {
  auto out = new_header(disk_bytes);
  out.parent = parent;
  // Header, L1, refcount block, refcount table: the L1 is a hole, its cluster exists by the length
  // of the file. One refcount block covers the first 2 GiB of the file.
  out.l1_offset = cluster_bytes;
  auto used = 1 + l1_clusters_of(out);
  auto layout = refcounts_for(used);
  out.refcount_table_offset = (used + layout.blocks) * cluster_bytes;
  out.refcount_table_clusters = static_cast<std::uint32_t>(layout.table_clusters);
  return out;
}

result<void> create_overlay(const std::filesystem::path& path, const uuid& parent,
                            std::uint64_t disk_bytes) {
  if (auto fits = check_disk_size(disk_bytes, path); !fits) {
    return fits;
  }
  auto head = overlay_header(parent, disk_bytes);
  return with_new_file(path, [&](file& out) -> result<void> {
    if (auto done = write_refcounts(out, 1 + l1_clusters_of(head), head); !done) {
      return done;
    }
    return out.write_at(0, encode_header(head));
  });
}

result<void> write_from_raw(const std::filesystem::path& raw, const std::filesystem::path& out) {
  auto source = file::open(raw, O_RDONLY);
  if (!source) {
    return source.error();
  }
  auto disk_bytes = source->size_bytes();
  if (!disk_bytes) {
    return disk_bytes.error();
  }
  if (auto fits = check_disk_size(*disk_bytes, raw); !fits) {
    return fits;
  }
  return with_new_file(out, [&](file& target) {
    return conversion{*source, *disk_bytes, target}.run();
  });
}

} // namespace coppice::storage::qcow2
