#include "storage/qcow2/reader.hpp"
#include "storage/qcow2/sealed_file.hpp"
#include "storage/qcow2/tables.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

// Headers, tables and chains of hostile qcow2 files, from memory.
//
// Input: one byte says how many files there are and which of three kinds, the rest is cut into
// equal pieces. Raw files are the pieces themselves: for the header. Plausible files have a valid
// header and 16 clusters of 512 bytes, and their piece is a list of table entries to write into
// them, so that a few bytes already make tables, data and chains. A sealed file is one of ours with
// the changes that its piece lists, and then some bytes of it are turned.
// The oracles beside the sanitizers: a read in one piece and the same read in two agree; a sealed
// file that is accepted is what would be written again for its content.

namespace {

namespace q = coppice::storage::qcow2;
using coppice::result;
using coppice::uuid;
using bytes = std::vector<std::byte>;

constexpr std::size_t files_max = 5;

/// Any name reaches some file, so that chains go on and close into loops.
const bytes& file_of(const std::vector<bytes>& files, const uuid& image) {
  return files[static_cast<std::size_t>(image.lo % files.size())];
}

constexpr std::uint32_t cluster_bits = 9;
constexpr std::size_t cluster_bytes = 1u << cluster_bits;
constexpr std::size_t clusters = 16;

/// A table entry out of two bytes: clusters inside and behind the file, every flag, misalignment.
std::uint64_t entry_of(std::byte where, std::byte flags) {
  auto entry = std::to_integer<std::uint64_t>(where) % (clusters + 1) * cluster_bytes;
  auto f = std::to_integer<unsigned>(flags);
  entry |= (f & 1u) != 0 ? q::entry_copied : 0;
  entry |= (f & 2u) != 0 ? q::l2_reads_as_zeros : 0;
  switch (f >> 4) { // rarely: each of these ends a read
  case 1:
    return entry | q::l2_compressed;
  case 2:
    return entry | 1ull << 57;
  case 3:
    return entry | 1ull << 5;
  case 4:
    return entry | 1ull << 45;
  default:
    return entry;
  }
}

bytes plausible_file(std::span<const std::byte> piece, std::size_t index, bool has_parent) {
  bytes out(clusters * cluster_bytes);
  for (std::size_t i = 8 * cluster_bytes; i < out.size(); ++i) {
    out[i] = static_cast<std::byte>(i / 8 + index * 37); // data that differs between files
  }
  q::header head;
  head.cluster_bits = cluster_bits;
  head.disk_bytes = 512 * (1 + (piece.empty() ? 0 : std::to_integer<std::uint64_t>(piece[0]) * 3));
  head.l1_entries = static_cast<std::uint32_t>(q::l1_entries_for(head.disk_bytes, cluster_bits));
  head.l1_offset = cluster_bytes;
  head.refcount_table_offset = 2 * cluster_bytes;
  head.refcount_table_clusters = 1;
  if (has_parent) {
    head.parent = uuid{1, index + 1};
  }
  auto encoded = q::encode_header(head);
  std::copy(encoded.begin(), encoded.end(), out.begin());
  for (std::size_t at = 1; at + 4 <= piece.size(); at += 4) {
    // A byte of the header, an entry of the L1, or one of four clusters that may be L2 tables.
    auto target = std::to_integer<std::size_t>(piece[at]) % 16;
    auto slot = std::to_integer<std::size_t>(piece[at + 1]);
    if (target == 15) {
      out[slot] = piece[at + 2];
      continue;
    }
    auto base = (target % 5 == 0 ? 1 : 3 + target % 5) * cluster_bytes;
    coppice::storage::store_be(out, base + slot % (cluster_bytes / 8) * 8,
                               entry_of(piece[at + 2], piece[at + 3]));
  }
  return out;
}

constexpr std::uint64_t sealed_disk_bytes = 16u << 20;

bytes sealed_file(std::span<const std::byte> piece) {
  using coppice::storage::own_extent;
  auto at = [&](std::size_t i) {
    return i < piece.size() ? std::to_integer<std::uint32_t>(piece[i]) : 0u;
  };
  std::vector<own_extent> own;
  std::uint32_t guest = 0;
  auto end = q::data_begin(sealed_disk_bytes);
  std::vector<std::uint32_t> checksums;
  std::size_t next = 1;
  for (auto left = at(0) % 16; left > 0; --left, next += 3) {
    guest += at(next) * 4;
    auto count = 1 + at(next + 1) % 8;
    if (guest + count > sealed_disk_bytes / coppice::storage::cluster_bytes) {
      break;
    }
    if (at(next + 2) % 4 == 0) {
      q::append_extent(own, {guest, count, own_extent::zeros});
    } else {
      end += at(next + 2) % 4 - 1; // a hole
      q::append_extent(own, {guest, count, end});
      end += count;
      checksums.resize(checksums.size() + count, at(next + 2));
    }
    guest += count;
  }
  auto parent = at(0) >= 128 ? std::optional{uuid{1, 2}} : std::nullopt;
  auto made = q::build_tables(sealed_disk_bytes, parent, own, end, checksums);
  bytes out(static_cast<std::size_t>(made.file_bytes));
  for (const auto& each : made.writes) {
    std::copy(each.bytes.begin(), each.bytes.end(),
              out.begin() + static_cast<std::ptrdiff_t>(each.offset_bytes));
  }
  // 12 bits lead to a byte of a cluster; most are zero, so few bits do for the useful ones.
  for (; next + 4 <= piece.size(); next += 4) {
    auto place = (at(next) * 4096 + (at(next + 1) % 16) * 256 + at(next + 2)) % out.size();
    out[place] ^= piece[next + 3];
  }
  return out;
}

/// L1 pieces without entries are not written: they must be zeros.
void check_sealed(const bytes& file) {
  auto source = q::bytes_in_memory("sealed", file);
  auto found = q::read_sealed(*source);
  if (!found) {
    return;
  }
  static_cast<void>(q::verify_content(*source, *found, found->own));
  auto again = q::build_tables(found->disk_bytes, found->parent, found->own, found->data_end,
                               found->checksums);
  if (again.file_bytes != file.size()) {
    std::abort();
  }
  auto begin = q::data_begin(found->disk_bytes) * coppice::storage::cluster_bytes;
  bytes head(static_cast<std::size_t>(begin));
  for (const auto& each : again.writes) {
    if (each.offset_bytes < begin) {
      std::copy(each.bytes.begin(), each.bytes.end(),
                head.begin() + static_cast<std::ptrdiff_t>(each.offset_bytes));
    } else if (!std::equal(each.bytes.begin(), each.bytes.end(),
                           file.begin() + static_cast<std::ptrdiff_t>(each.offset_bytes))) {
      std::abort();
    }
  }
  if (!std::equal(head.begin(), head.end(), file.begin())) {
    std::abort();
  }
}

void read_both_ways(q::reader& disk, std::uint64_t offset, std::size_t length) {
  bytes whole(length);
  if (!disk.read(offset, whole)) {
    return;
  }
  bytes halves(length, std::byte{0xa5});
  auto middle = length / 3;
  auto first = disk.read(offset, std::span{halves}.first(middle));
  auto second = disk.read(offset + middle, std::span{halves}.subspan(middle));
  if (!first || !second || whole != halves) {
    std::abort();
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) {
    return 0;
  }
  auto count = 1u + (data[0] & 0x3fu) % files_max;
  auto plausible = (data[0] & 0x80u) != 0;
  auto sealed = !plausible && (data[0] & 0x40u) != 0;
  auto input = std::as_bytes(std::span{data, size}).subspan(1);
  auto each = input.size() / count;
  std::vector<bytes> files;
  for (std::size_t i = 0; i < count; ++i) {
    auto piece = input.subspan(i * each, each);
    if (plausible) {
      // The last one sometimes has a parent too: then the chain is a loop.
      files.push_back(plausible_file(piece, i, i + 1 < count || (data[0] & 0x40u) != 0));
    } else if (sealed) {
      files.push_back(sealed_file(piece));
    } else {
      files.emplace_back(piece.begin(), piece.end());
    }
  }

  check_sealed(files.front());
  auto top = q::bytes_in_memory("top", files.front());
  if (auto head = q::read_header(*top)) {
    static_cast<void>(q::check_tables(*top, *head));
    if (auto again = q::encode_header(*head); again.size() > q::header_area_bytes) {
      std::abort();
    }
  }
  q::reader_limits limits;
  limits.layers_max = 16;
  limits.open_files_max = 2;
  limits.l2_bytes_max = 4096;
  limits.l1_bytes_max = 1u << 14;
  auto disk = q::reader::open(
      std::move(top),
      [&](const uuid& image) -> result<std::unique_ptr<q::byte_source>> {
        return q::bytes_in_memory(image.text(), file_of(files, image));
      },
      limits);
  if (!disk) {
    return 0;
  }
  auto disk_bytes = (*disk)->size_bytes();
  auto length = static_cast<std::size_t>(std::min<std::uint64_t>(disk_bytes, 200'000));
  read_both_ways(**disk, 0, length);
  read_both_ways(**disk, disk_bytes - length, length);
  read_both_ways(
      **disk, disk_bytes / 2,
      static_cast<std::size_t>(std::min<std::uint64_t>(disk_bytes - disk_bytes / 2, 5000)));
  return 0;
}
