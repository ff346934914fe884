#include "storage/qcow2/sealed_file.hpp"

#include "storage/error.hpp"
#include "storage/qcow2/sealed_layout.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

namespace coppice::storage::qcow2 {

namespace {

using cluster_buffer = std::array<std::byte, cluster_bytes_written>;

/// Tables that are read in one call: 1 MiB.
constexpr std::uint64_t batch_clusters = 256;

bool is_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

/// One parse. Order: what is cheap and bounds the rest comes first; at the end the file is compared
/// with what would be written for what was found.
class parser {
public:
  explicit parser(const byte_source& source) : source_{source} {}

  result<sealed_content> run();

private:
  failure damaged(const std::string& what) const {
    return fail(ec::damaged, source_.name() + ": " + what);
  }
  result<void> read_clusters(std::uint64_t first, std::span<std::byte> out) const {
    return source_.read(first * cluster_bytes_written, out);
  }

  result<void> read_head();
  result<void> count_refcount_blocks();
  result<void> find_l2_tables();
  result<void> read_l2_tables();
  result<void> take_l2(std::uint64_t region, std::span<const std::byte> table);
  result<own_extent> extent_of(std::uint64_t guest, std::uint64_t entry) const;
  result<void> check_overlaps() const;
  result<void> compare_refcounts(const sealed_layout& layout) const;
  result<void> compare_head(const sealed_layout& layout) const;
  result<void> read_checksums(const sealed_layout& layout);

  const byte_source& source_;
  header head_;
  std::uint64_t refcount_blocks_ = 0;
  std::vector<std::uint32_t> regions_; ///< the L1 entries that lead to a table, by number
  sealed_content out_;
};

result<sealed_content> parser::run() {
  using step = result<void> (parser::*)();
  for (auto next : std::array<step, 4>{&parser::read_head, &parser::count_refcount_blocks,
                                       &parser::find_l2_tables, &parser::read_l2_tables}) {
    if (auto done = (this->*next)(); !done) {
      return done.error();
    }
  }
  if (auto done = check_overlaps(); !done) {
    return done.error();
  }
  auto layout = place_tables(out_.disk_bytes, out_.own, out_.data_end);
  if (auto done = compare_head(layout); !done) {
    return done.error();
  }
  if (auto done = compare_refcounts(layout); !done) {
    return done.error();
  }
  if (auto done = read_checksums(layout); !done) {
    return done.error();
  }
  return std::move(out_);
}

result<void> parser::read_head() {
  auto found = read_header(source_);
  if (!found) {
    return found.error();
  }
  head_ = std::move(*found);
  if (head_.cluster_bits != cluster_bits_written ||
      head_.refcount_order != refcount_order_written) {
    return fail(ec::unsupported,
                source_.name() + ": its clusters or reference counts are of another size");
  }
  if (!head_.checksums) {
    return fail(ec::unsupported, source_.name() + ": has no checksums");
  }
  if (source_.size_bytes() % cluster_bytes_written != 0) {
    return damaged("ends inside a cluster");
  }
  out_.disk_bytes = head_.disk_bytes;
  out_.parent = head_.parent;
  return {};
}

result<void> parser::count_refcount_blocks() {
  cluster_buffer buffer{};
  auto first = head_.refcount_table_offset / cluster_bytes_written;
  for (std::uint64_t i = 0; i < head_.refcount_table_clusters; ++i) {
    if (auto done = read_clusters(first + i, buffer); !done) {
      return done;
    }
    for (std::size_t at = 0; at < buffer.size(); at += entry_bytes) {
      refcount_blocks_ += load_be<std::uint64_t>(buffer, at) != 0 ? 1 : 0;
    }
  }
  return {};
}

/// The metadata follows the data without a gap, so its end and the number of its tables say where
/// it begins; every L1 entry is then known before it is read.
result<void> parser::find_l2_tables() {
  cluster_buffer buffer{};
  std::vector<std::uint64_t> entries;
  auto l1_clusters = data_begin(out_.disk_bytes) - 1u;
  for (std::uint64_t i = 0; i < l1_clusters; ++i) {
    if (auto done = read_clusters(1 + i, buffer); !done) {
      return done;
    }
    for (std::size_t at = 0; at < buffer.size(); at += entry_bytes) {
      auto entry = load_be<std::uint64_t>(buffer, at);
      if (entry == 0) {
        continue;
      }
      entries.push_back(entry);
      regions_.push_back(
          static_cast<std::uint32_t>((i * cluster_bytes_written + at) / entry_bytes));
    }
  }
  auto last = head_.refcount_table_offset / cluster_bytes_written;
  if (last < data_begin(out_.disk_bytes) + refcount_blocks_ + entries.size()) {
    return damaged("has no room for " + std::to_string(entries.size()) + " L2 tables");
  }
  auto data_end = last - refcount_blocks_ - entries.size();
  out_.data_end = static_cast<cluster_number>(data_end);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (entries[i] != ((data_end + i) * cluster_bytes_written | entry_copied)) {
      return damaged("the L2 table for L1 entry " + std::to_string(regions_[i]) +
                     " is not where it was written");
    }
  }
  return {};
}

result<void> parser::read_l2_tables() {
  std::vector<std::byte> batch(static_cast<std::size_t>(
      std::min<std::uint64_t>(batch_clusters, regions_.size()) * cluster_bytes_written));
  for (std::size_t done = 0; done < regions_.size();) {
    auto count = std::min<std::size_t>(batch_clusters, regions_.size() - done);
    auto bytes = std::span{batch}.first(count * cluster_bytes_written);
    if (auto got = read_clusters(out_.data_end + done, bytes); !got) {
      return got;
    }
    for (std::size_t i = 0; i < count; ++i) {
      auto table = bytes.subspan(i * cluster_bytes_written, cluster_bytes_written);
      if (auto taken = take_l2(regions_[done + i], table); !taken) {
        return taken;
      }
    }
    done += count;
  }
  return {};
}

result<void> parser::take_l2(std::uint64_t region, std::span<const std::byte> table) {
  auto is_empty = true;
  for (std::uint64_t i = 0; i < l2_clusters; ++i) {
    auto entry = load_be<std::uint64_t>(table, static_cast<std::size_t>(i * entry_bytes));
    if (entry == 0) {
      continue;
    }
    is_empty = false;
    auto next = extent_of(region * l2_clusters + i, entry);
    if (!next) {
      return next.error();
    }
    append_extent(out_.own, *next);
    if (out_.own.size() > own_extents_max) {
      return fail(ec::too_large, source_.name() + ": more than " + std::to_string(own_extents_max) +
                                     " separate changes");
    }
  }
  if (is_empty) {
    return damaged("the L2 table for L1 entry " + std::to_string(region) + " is empty");
  }
  return {};
}

/// The one cluster of the disk that an L2 entry maps.
result<own_extent> parser::extent_of(std::uint64_t guest, std::uint64_t entry) const {
  if (guest >= divide_up(out_.disk_bytes, cluster_bytes_written)) {
    return damaged("cluster " + std::to_string(guest) + " is behind the end of the disk");
  }
  own_extent out{static_cast<cluster_number>(guest), 1, own_extent::zeros};
  if (entry == l2_reads_as_zeros) {
    return out;
  }
  auto offset = entry & entry_offset_mask;
  auto place = offset / cluster_bytes_written;
  if (entry != (offset | entry_copied) || offset % cluster_bytes_written != 0 ||
      place < data_begin(out_.disk_bytes) || place >= out_.data_end) {
    return damaged("the L2 entry of cluster " + std::to_string(guest) +
                   " is none that was written, or leads out of the data");
  }
  out.file = static_cast<cluster_number>(place);
  return out;
}

result<void> parser::check_overlaps() const {
  auto runs = data_runs(out_.own);
  for (std::size_t i = 1; i < runs.size(); ++i) {
    if (runs[i].first < runs[i - 1].end()) {
      return damaged("the cluster at " + std::to_string(runs[i].first * cluster_bytes_written) +
                     " is used twice");
    }
  }
  return {};
}

/// Header and place of every table in one comparison.
result<void> parser::compare_head(const sealed_layout& layout) const {
  auto expected = header_of(layout, out_.parent);
  expected.checksums = checksum_place{layout.checksums_offset(), head_.checksums->count};
  auto bytes = encode_header(expected);
  bytes.resize(static_cast<std::size_t>(cluster_bytes_written));
  cluster_buffer found{};
  if (auto done = read_clusters(0, found); !done) {
    return done;
  }
  if (!std::equal(found.begin(), found.end(), bytes.begin())) {
    return damaged("its header is not the one that belongs to its content");
  }
  return {};
}

result<void> parser::compare_refcounts(const sealed_layout& layout) const {
  cluster_buffer expected{};
  cluster_buffer found{};
  refcount_writer counts{layout};
  for (std::size_t i = 0; i < layout.refcount_blocks.size(); ++i) {
    expected.fill(std::byte{0});
    counts.next(expected);
    if (auto done = read_clusters(layout.refcount_blocks_begin + i, found); !done) {
      return done;
    }
    if (found != expected) {
      return damaged("reference counts differ from what is in use, in the block for the clusters "
                     "from " +
                     std::to_string(layout.refcount_blocks[i] * refcounts_in_block));
    }
  }
  auto table = encode_refcount_table(layout);
  table.resize(static_cast<std::size_t>(layout.refcount_table_clusters * cluster_bytes_written));
  for (std::uint64_t i = 0; i < layout.refcount_table_clusters; ++i) {
    if (auto done = read_clusters(layout.refcount_table_begin + i, found); !done) {
      return done;
    }
    auto at = table.begin() + static_cast<std::ptrdiff_t>(i * cluster_bytes_written);
    if (!std::equal(found.begin(), found.end(), at)) {
      return damaged("the refcount table differs from what is in use");
    }
  }
  return {};
}

result<void> parser::read_checksums(const sealed_layout& layout) {
  std::uint64_t count = 0;
  for (const auto& extent : out_.own) {
    count += extent.file != own_extent::zeros ? extent.count : 0;
  }
  if (head_.checksums->count != count) {
    return damaged("has " + std::to_string(head_.checksums->count) + " checksums for " +
                   std::to_string(count) + " clusters of data");
  }
  auto clusters = divide_up(count * checksum_bytes, cluster_bytes_written);
  if (source_.size_bytes() != (layout.counted_end + clusters) * cluster_bytes_written) {
    return damaged("does not end behind its checksums");
  }
  out_.checksums.resize(static_cast<std::size_t>(count));
  cluster_buffer buffer{};
  for (std::size_t done = 0; done < out_.checksums.size();) {
    auto cluster = layout.counted_end + done * checksum_bytes / cluster_bytes_written;
    if (auto got = read_clusters(cluster, buffer); !got) {
      return got;
    }
    auto here = std::min(out_.checksums.size() - done, buffer.size() / checksum_bytes);
    for (std::size_t i = 0; i < here; ++i) {
      out_.checksums[done + i] = load_be<std::uint32_t>(buffer, i * checksum_bytes);
    }
    if (!is_zero(std::span{buffer}.subspan(here * checksum_bytes))) {
      return damaged("has something behind its checksums");
    }
    done += here;
  }
  return {};
}

} // namespace

result<sealed_content> read_sealed(const byte_source& source) {
  return parser{source}.run();
}

} // namespace coppice::storage::qcow2
