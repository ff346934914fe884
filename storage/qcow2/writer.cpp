#include "storage/qcow2/writer.hpp"

#include "storage/error.hpp"
#include "storage/file.hpp"
#include "storage/qcow2/format.hpp"
#include "storage/qcow2/raw_conversion.hpp"
#include "storage/qcow2/sealed_file.hpp"
#include "storage/qcow2/sealed_layout.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

namespace coppice::storage::qcow2 {

namespace {

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

/// An overlay grows under QEMU, which would move a refcount table that became too small, and the
/// seal would not know the header again. So the table is large enough for a file of twice the disk;
/// nearly all of it is a hole.
sealed_layout overlay_layout(std::uint64_t disk_bytes) {
  auto blocks = divide_up(2 * disk_bytes, refcounts_in_block * cluster_bytes_written);
  auto table_bytes = std::min(blocks * entry_bytes, refcount_table_bytes_max);
  return place_tables(disk_bytes, {}, data_begin(disk_bytes),
                      divide_up(table_bytes, cluster_bytes_written));
}

result<void> write_overlay(file& out, const sealed_layout& layout, const header& head) {
  std::vector<std::byte> block(static_cast<std::size_t>(cluster_bytes_written));
  refcount_writer counts{layout};
  for (std::size_t i = 0; i < layout.refcount_blocks.size(); ++i) {
    std::fill(block.begin(), block.end(), std::byte{0});
    counts.next(block);
    auto at = (layout.refcount_blocks_begin + i) * cluster_bytes_written;
    if (auto done = out.write_at(at, block); !done) {
      return done;
    }
  }
  if (auto done = out.write_at(head.refcount_table_offset, encode_refcount_table(layout)); !done) {
    return done;
  }
  if (auto done = out.set_size(layout.counted_end * cluster_bytes_written); !done) {
    return done;
  }
  return out.write_at(0, encode_header(head));
}

} // namespace

header overlay_header(const uuid& parent, std::uint64_t disk_bytes) {
  return header_of(overlay_layout(disk_bytes), parent);
}

result<void> create_overlay(const std::filesystem::path& path, const uuid& parent,
                            std::uint64_t disk_bytes) {
  if (auto fits = check_disk_size(disk_bytes, path); !fits) {
    return fits;
  }
  auto layout = overlay_layout(disk_bytes);
  return with_new_file(
      path, [&](file& out) { return write_overlay(out, layout, header_of(layout, parent)); });
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
    return raw_conversion{*source, *disk_bytes, target}.run();
  });
}

} // namespace coppice::storage::qcow2
