#include "storage/qcow2/tables.hpp"

#include "storage/error.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <utility>

namespace coppice::storage::qcow2 {

namespace {

failure damaged(const byte_source& source, const std::string& what) {
  return fail(ec::damaged, source.name() + ": " + what);
}

/// Whether a cluster may start there: behind the header, aligned, not behind the end of the file.
bool is_cluster_of_file(std::uint64_t offset, const header& h, const byte_source& source) {
  return offset != 0 && offset % h.cluster_bytes() == 0 && offset < source.size_bytes();
}

result<std::vector<std::uint64_t>> read_table(const byte_source& source, std::uint64_t offset,
                                              std::size_t entries) {
  std::vector<std::byte> bytes(entries * entry_bytes);
  if (auto done = source.read(offset, bytes); !done) {
    return done.error();
  }
  std::vector<std::uint64_t> out(entries);
  for (std::size_t i = 0; i < entries; ++i) {
    out[i] = load_be<std::uint64_t>(bytes, i * entry_bytes);
  }
  return out;
}

/// The clusters of one file that something was found in.
class used_clusters {
public:
  used_clusters(const byte_source& source, const header& h)
      : source_{source}, cluster_bytes_{h.cluster_bytes()},
        used_(static_cast<std::size_t>(divide_up(source.size_bytes(), cluster_bytes_))) {}

  /// Precondition: the range lies inside the file.
  result<void> take(std::uint64_t offset, std::uint64_t length) {
    auto first = offset / cluster_bytes_;
    auto count = divide_up(length, cluster_bytes_);
    for (auto i = first; i < first + count; ++i) {
      auto bit = used_[static_cast<std::size_t>(i)];
      if (bit) {
        return damaged(source_,
                       "the cluster at " + std::to_string(i * cluster_bytes_) + " is used twice");
      }
      bit = true;
    }
    return {};
  }

private:
  const byte_source& source_;
  std::uint64_t cluster_bytes_;
  std::vector<bool> used_;
};

result<void> check_l2(const byte_source& source, const header& h, std::uint64_t offset,
                      used_clusters& used) {
  auto table = read_l2(source, h, offset);
  if (!table) {
    return table.error();
  }
  for (auto entry : *table) {
    auto at = cluster_of(entry).offset_bytes;
    if (at == 0) {
      continue;
    }
    if (auto taken = used.take(at, h.cluster_bytes()); !taken) {
      return taken;
    }
  }
  return {};
}

} // namespace

std::size_t l1_pieces(const header& h) {
  return static_cast<std::size_t>(
      divide_up(l1_entries_for(h.disk_bytes, h.cluster_bits), l1_piece_entries));
}

result<std::vector<std::uint64_t>> read_l1_piece(const byte_source& source, const header& h,
                                                 std::size_t piece) {
  auto first = std::uint64_t{piece} * l1_piece_entries;
  auto count = std::min<std::uint64_t>(l1_piece_entries,
                                       l1_entries_for(h.disk_bytes, h.cluster_bits) - first);
  auto table =
      read_table(source, h.l1_offset + first * entry_bytes, static_cast<std::size_t>(count));
  if (!table) {
    return table;
  }
  auto is_used = false;
  for (auto& entry : *table) {
    if ((entry & l1_reserved) != 0) {
      return damaged(source, "reserved bits in an L1 entry");
    }
    entry &= entry_offset_mask;
    if (entry != 0 && !is_cluster_of_file(entry, h, source)) {
      return damaged(source, "L2 table at " + std::to_string(entry) +
                                 " is misaligned or outside of the file");
    }
    is_used = is_used || entry != 0;
  }
  if (!is_used) {
    table->clear();
  }
  return table;
}

result<std::vector<std::uint64_t>> read_l2(const byte_source& source, const header& h,
                                           std::uint64_t offset_bytes) {
  auto table = read_table(source, offset_bytes, static_cast<std::size_t>(h.l2_entries()));
  if (!table) {
    return table;
  }
  for (auto entry : *table) {
    if ((entry & l2_compressed) != 0) {
      return damaged(source, "a compressed cluster, which we never write");
    }
    if ((entry & l2_reserved) != 0) {
      return damaged(source, "reserved bits in an L2 entry");
    }
    auto offset = entry & entry_offset_mask;
    if (offset != 0 && !is_cluster_of_file(offset, h, source)) {
      return damaged(source, "cluster at " + std::to_string(offset) +
                                 " is misaligned or outside of the file");
    }
    if (offset == 0 && (entry & entry_copied) != 0) {
      return damaged(source, "a cluster at offset 0, which only external data files have");
    }
  }
  return table;
}

cluster cluster_of(std::uint64_t l2_entry) {
  auto offset = l2_entry & entry_offset_mask;
  if ((l2_entry & l2_reads_as_zeros) != 0) {
    return {cluster::state::zeros, offset};
  }
  return {offset != 0 ? cluster::state::data : cluster::state::unallocated, offset};
}

result<void> check_tables(const byte_source& source, const header& h) {
  used_clusters used{source, h};
  auto refcount_table_bytes = h.refcount_table_clusters * h.cluster_bytes();
  for (auto [offset, length] : {std::pair{std::uint64_t{0}, h.cluster_bytes()},
                                std::pair{h.l1_offset, h.l1_entries * entry_bytes},
                                std::pair{h.refcount_table_offset, refcount_table_bytes}}) {
    if (auto taken = used.take(offset, length); !taken) {
      return taken;
    }
  }
  for (std::size_t piece = 0; piece < l1_pieces(h); ++piece) {
    auto l1 = read_l1_piece(source, h, piece);
    if (!l1) {
      return l1.error();
    }
    for (auto offset : *l1) {
      if (offset == 0) {
        continue;
      }
      if (auto taken = used.take(offset, h.cluster_bytes()); !taken) {
        return taken;
      }
      if (auto done = check_l2(source, h, offset, used); !done) {
        return done;
      }
    }
  }
  return {};
}

} // namespace coppice::storage::qcow2
