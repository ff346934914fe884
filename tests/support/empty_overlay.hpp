#pragma once

#include "protocol/uuid.hpp"
#include "storage/file.hpp"
#include "storage/qcow2/format.hpp"
#include "storage/qcow2/sealed_file.hpp"
#include "storage/qcow2/sealed_layout.hpp"

#include <boost/test/unit_test.hpp>

#include <fcntl.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

/// A qcow2 file over a parent with nothing of its own, which QEMU may write to: for the tests of
/// who reads such files. The product makes sealed files only.
namespace coppice::storage::test {

inline qcow2::sealed_layout empty_layout(std::uint64_t disk_bytes) {
  return qcow2::place_tables(disk_bytes, {}, qcow2::data_begin(disk_bytes));
}

inline qcow2::header empty_overlay_header(const uuid& parent, std::uint64_t disk_bytes) {
  return qcow2::header_of(empty_layout(disk_bytes), parent);
}

/// The parent is neither opened nor looked for.
inline void make_empty_overlay(const std::filesystem::path& path, const uuid& parent,
                               std::uint64_t disk_bytes) {
  const auto cluster = qcow2::cluster_bytes_written;
  const auto layout = empty_layout(disk_bytes);
  const auto head = qcow2::header_of(layout, parent);
  auto out = file::open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
  BOOST_REQUIRE_MESSAGE(out, (out ? "" : out.error().text));
  qcow2::refcount_writer counts{layout};
  for (std::size_t i = 0; i < layout.refcount_blocks.size(); ++i) {
    std::vector<std::byte> block(static_cast<std::size_t>(cluster));
    counts.next(block);
    BOOST_REQUIRE(out->write_at((layout.refcount_blocks_begin + i) * cluster, block));
  }
  BOOST_REQUIRE(out->write_at(head.refcount_table_offset, qcow2::encode_refcount_table(layout)));
  BOOST_REQUIRE(out->set_size(layout.counted_end * cluster));
  BOOST_REQUIRE(out->write_at(0, qcow2::encode_header(head)));
}

} // namespace coppice::storage::test
