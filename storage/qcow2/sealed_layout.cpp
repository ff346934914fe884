#include "storage/qcow2/sealed_layout.hpp"

#include "storage/qcow2/sealed_file.hpp"

#include <algorithm>

namespace coppice::storage::qcow2 {

namespace {

std::uint64_t count_l2_tables(std::span<const own_extent> own) {
  std::uint64_t count = 0;
  std::uint64_t next = 0; // the first table that is not counted yet
  for (const auto& extent : own) {
    auto first = std::max(next, extent.guest / l2_clusters);
    auto end = (std::uint64_t{extent.guest} + extent.count - 1) / l2_clusters + 1;
    if (end > first) {
      count += end - first;
      next = end;
    }
  }
  return count;
}

/// The numbers of the refcount blocks that count these runs, ascending.
std::vector<std::uint64_t> blocks_of(std::span<const cluster_run> runs) {
  std::vector<std::uint64_t> out;
  for (const auto& run : runs) {
    auto first = run.first / refcounts_in_block;
    auto last = (run.end() - 1) / refcounts_in_block;
    for (auto block = first; block <= last; ++block) {
      if (out.empty() || out.back() < block) {
        out.push_back(block);
      }
    }
  }
  return out;
}

} // namespace

cluster_number data_begin(std::uint64_t disk_bytes) {
  auto l1_bytes = l1_entries_for(disk_bytes, cluster_bits_written) * entry_bytes;
  return static_cast<cluster_number>(1 + divide_up(l1_bytes, cluster_bytes_written));
}

std::vector<cluster_run> data_runs(std::span<const own_extent> own) {
  std::vector<cluster_run> out;
  for (const auto& extent : own) {
    if (extent.file == own_extent::zeros) {
      continue;
    }
    if (!out.empty() && out.back().end() == extent.file) {
      out.back().count += extent.count;
    } else {
      out.push_back({extent.file, extent.count});
    }
  }
  std::sort(out.begin(), out.end(), [](auto& a, auto& b) { return a.first < b.first; });
  std::size_t kept = 0;
  for (std::size_t i = 1; i < out.size(); ++i) {
    if (out[kept].end() == out[i].first) {
      out[kept].count += out[i].count;
    } else {
      out[++kept] = out[i];
    }
  }
  out.resize(std::min(out.size(), kept + 1));
  return out;
}

sealed_layout place_tables(std::uint64_t disk_bytes, std::span<const own_extent> own,
                           std::uint64_t data_end) {
  sealed_layout out;
  out.disk_bytes = disk_bytes;
  out.data_end = data_end;
  out.l2_tables = count_l2_tables(own);
  out.refcount_blocks_begin = data_end + out.l2_tables;
  out.counted = data_runs(own);
  out.counted.insert(out.counted.begin(), {0, data_begin(disk_bytes)});
  auto fixed = blocks_of(out.counted);
  while (!fixed.empty() && fixed.back() >= data_end / refcounts_in_block) {
    fixed.pop_back(); // these count metadata too
  }
  // Blocks and table count themselves: the least numbers that are enough, found from below.
  auto first = data_end / refcounts_in_block;
  std::uint64_t blocks = 1;
  std::uint64_t table_clusters = 1;
  for (;;) {
    out.counted_end = out.refcount_blocks_begin + blocks + table_clusters;
    auto last = (out.counted_end - 1) / refcounts_in_block;
    auto blocks_needed = fixed.size() + (last - first + 1);
    auto table_needed = divide_up((last + 1) * entry_bytes, cluster_bytes_written);
    if (blocks_needed == blocks && table_needed == table_clusters) {
      break;
    }
    blocks = blocks_needed;
    table_clusters = table_needed;
  }
  out.refcount_blocks = std::move(fixed);
  while (out.refcount_blocks.size() < blocks) {
    out.refcount_blocks.push_back(first++);
  }
  out.refcount_table_begin = out.refcount_blocks_begin + blocks;
  out.refcount_table_clusters = table_clusters;
  out.counted.push_back({data_end, out.counted_end - data_end});
  return out;
}

void refcount_writer::next(std::span<std::byte> block) {
  auto begin = layout_.refcount_blocks[block_++] * refcounts_in_block;
  auto end = begin + refcounts_in_block;
  for (; run_ < layout_.counted.size() && layout_.counted[run_].first < end; ++run_) {
    const auto& run = layout_.counted[run_];
    for (auto at = std::max(run.first, begin); at < std::min(run.end(), end); ++at) {
      store_be(block, static_cast<std::size_t>((at - begin) * refcount_bytes), std::uint16_t{1});
    }
    if (run.end() > end) {
      return;
    }
  }
}

std::vector<std::byte> encode_refcount_table(const sealed_layout& layout) {
  std::vector<std::byte> out(
      static_cast<std::size_t>((layout.refcount_blocks.back() + 1) * entry_bytes));
  auto at = layout.refcount_blocks_begin;
  for (auto block : layout.refcount_blocks) {
    store_be(out, static_cast<std::size_t>(block * entry_bytes), at++ * cluster_bytes_written);
  }
  return out;
}

header header_of(const sealed_layout& layout, const std::optional<uuid>& parent) {
  header out;
  out.disk_bytes = layout.disk_bytes;
  out.l1_entries = static_cast<std::uint32_t>(l1_entries_for(out.disk_bytes, out.cluster_bits));
  out.l1_offset = cluster_bytes_written;
  out.refcount_table_offset = layout.refcount_table_begin * cluster_bytes_written;
  out.refcount_table_clusters = static_cast<std::uint32_t>(layout.refcount_table_clusters);
  out.parent = parent;
  return out;
}

} // namespace coppice::storage::qcow2
