#include "storage/qcow2/sealed_file.hpp"

#include "storage/qcow2/sealed_layout.hpp"

#include <algorithm>
#include <utility>

namespace coppice::storage::qcow2 {

namespace {

constexpr std::uint64_t entries_in_cluster = cluster_bytes_written / entry_bytes;

/// One build: the L1 in pieces of a cluster, and everything behind the data in one write.
class builder {
public:
  builder(const sealed_layout& layout, const std::optional<uuid>& parent)
      : layout_{layout}, parent_{parent} {}

  sealed_tables run(std::span<const own_extent> own, std::span<const std::uint32_t> checksums);

private:
  /// Bytes of what is written behind the data.
  std::span<std::byte> tail_at(std::uint64_t cluster) {
    auto offset = (cluster - layout_.data_end) * cluster_bytes_written;
    return std::span{tail_}.subspan(static_cast<std::size_t>(offset));
  }

  void map(std::span<const own_extent> own);
  void begin_l2(std::uint64_t index);
  void count_references();
  void add_checksums(std::span<const std::uint32_t> checksums);

  const sealed_layout& layout_;
  const std::optional<uuid>& parent_;
  std::vector<table_write> l1_; ///< the touched pieces, adjacent ones merged
  std::vector<std::byte> tail_;
  std::uint64_t l2_tables_ = 0; ///< made so far
  std::uint64_t l2_index_ = 0;  ///< which part of the disk the last one maps
};

sealed_tables builder::run(std::span<const own_extent> own,
                           std::span<const std::uint32_t> checksums) {
  auto checksum_clusters = divide_up(checksums.size() * checksum_bytes, cluster_bytes_written);
  auto end = layout_.counted_end + checksum_clusters;
  tail_.resize(static_cast<std::size_t>((end - layout_.data_end) * cluster_bytes_written));
  map(own);
  count_references();
  add_checksums(checksums);

  auto head = header_of(layout_, parent_);
  head.checksums = checksum_place{layout_.checksums_offset(), checksums.size()};
  auto first = encode_header(head);
  first.resize(static_cast<std::size_t>(cluster_bytes_written));

  sealed_tables out;
  out.file_bytes = end * cluster_bytes_written;
  out.writes = std::move(l1_);
  out.writes.push_back({layout_.data_end * cluster_bytes_written, std::move(tail_)});
  out.writes.push_back({0, std::move(first)});
  return out;
}

void builder::map(std::span<const own_extent> own) {
  for (const auto& extent : own) {
    for (cluster_number i = 0; i < extent.count; ++i) {
      auto guest = std::uint64_t{extent.guest} + i;
      if (l2_tables_ == 0 || guest / l2_clusters != l2_index_) {
        begin_l2(guest / l2_clusters);
      }
      auto entry = l2_reads_as_zeros;
      if (extent.file != own_extent::zeros) {
        entry = (std::uint64_t{extent.file} + i) * cluster_bytes_written | entry_copied;
      }
      store_be(tail_at(layout_.data_end + l2_tables_ - 1),
               static_cast<std::size_t>(guest % l2_clusters * entry_bytes), entry);
    }
  }
}

/// The next L2 table, and its entry in the L1.
void builder::begin_l2(std::uint64_t index) {
  auto l2_offset = (layout_.data_end + l2_tables_) * cluster_bytes_written;
  l2_index_ = index;
  ++l2_tables_;
  auto piece = cluster_bytes_written + index / entries_in_cluster * cluster_bytes_written;
  auto end_of_last = l1_.empty() ? 0 : l1_.back().offset_bytes + l1_.back().bytes.size();
  if (end_of_last != piece + cluster_bytes_written) {
    if (end_of_last != piece) {
      l1_.push_back({piece, {}});
    }
    auto& bytes = l1_.back().bytes;
    bytes.resize(bytes.size() + cluster_bytes_written);
  }
  auto at = cluster_bytes_written + index * entry_bytes - l1_.back().offset_bytes;
  store_be(std::span{l1_.back().bytes}, static_cast<std::size_t>(at), l2_offset | entry_copied);
}

void builder::count_references() {
  refcount_writer counts{layout_};
  for (std::size_t i = 0; i < layout_.refcount_blocks.size(); ++i) {
    counts.next(
        tail_at(layout_.refcount_blocks_begin + i).first(std::size_t{cluster_bytes_written}));
  }
  auto table = encode_refcount_table(layout_);
  std::copy(table.begin(), table.end(), tail_at(layout_.refcount_table_begin).begin());
}

void builder::add_checksums(std::span<const std::uint32_t> checksums) {
  auto out = tail_at(layout_.counted_end);
  for (std::size_t i = 0; i < checksums.size(); ++i) {
    store_be(out, i * checksum_bytes, checksums[i]);
  }
}

} // namespace

void append_extent(std::vector<own_extent>& own, const own_extent& next) {
  if (!own.empty()) {
    auto& last = own.back();
    auto goes_on = next.file == own_extent::zeros
                       ? last.file == own_extent::zeros
                       : last.file != own_extent::zeros && last.file + last.count == next.file;
    if (goes_on && last.guest + last.count == next.guest) {
      last.count += next.count;
      return;
    }
  }
  own.push_back(next);
}

sealed_tables build_tables(std::uint64_t disk_bytes, const std::optional<uuid>& parent,
                           std::span<const own_extent> own, cluster_number data_end,
                           std::span<const std::uint32_t> checksums) {
  auto layout = place_tables(disk_bytes, own, data_end);
  return builder{layout, parent}.run(own, checksums);
}

} // namespace coppice::storage::qcow2
