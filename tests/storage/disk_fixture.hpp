#pragma once

#include "protocol/uuid.hpp"
#include "storage/disk/overlay.hpp"
#include "storage/disk/seal.hpp"
#include "storage/ring/io.hpp"
#include "tests/storage/scratch.hpp"

#include <boost/test/unit_test.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace coppice::storage::test {

using content = std::vector<std::byte>;

inline content cluster_of(std::uint8_t value) {
  return content(cluster_bytes, static_cast<std::byte>(value));
}

/// The first cluster of an ext4 that says "cleanly unmounted"; `writes` is bookkeeping of mounts.
inline content clean_superblock(std::uint16_t state = 1, std::uint32_t writes = 0) {
  content out(cluster_bytes);
  auto put = [&](std::size_t at, std::uint32_t value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) {
      out[1024 + at + i] = static_cast<std::byte>(value >> (8 * i));
    }
  };
  put(0x4, 1000, 4);
  put(0x18, 2, 4);
  put(0x38, 0xef53, 2);
  put(0x3a, state, 2);
  put(0x2c, writes, 4);
  put(0x178, writes, 4);
  return out;
}

/// Disks of images in a scratch folder, on a ring that the test turns itself.
struct disk_fixture {
  explicit disk_fixture(std::unique_ptr<ring> on = default_ring()) : io{std::move(on)} {}

  static std::unique_ptr<ring> default_ring() {
    return uring_obstacle().empty() ? make_uring() : make_thread_ring();
  }

  scratch dir;
  std::unique_ptr<ring> io;
  sealed_files files{*io, dir.path(), 8};
  directory_sync names{*io, dir.path().string()};
  static constexpr std::uint64_t disk_bytes = 64ull << 30;
  std::uint64_t own_bytes_max = 1ull << 30;

  std::filesystem::path file_of(const uuid& id, const char* suffix = ".qcow2") const {
    return dir.path() / (id.text() + suffix);
  }

  std::unique_ptr<overlay> branch(const uuid& id, std::shared_ptr<const block_index> below) {
    return std::make_unique<overlay>(
        *io, files, std::move(below),
        overlay::place{id, file_of(id, ".overlay"), disk_bytes, own_bytes_max});
  }

  int write(overlay& disk, cluster_number guest, const content& data) {
    return io::run(*io, disk.write(std::uint64_t{guest} * cluster_bytes, data));
  }
  int zero(overlay& disk, cluster_number guest, cluster_number count) {
    return io::run(*io, disk.zero(std::uint64_t{guest} * cluster_bytes, count * cluster_bytes));
  }
  content read(overlay& disk, cluster_number guest, cluster_number count = 1) {
    content out(count * cluster_bytes, std::byte{0xee});
    BOOST_TEST(io::run(*io, disk.read(std::uint64_t{guest} * cluster_bytes, out)) == 0);
    return out;
  }

  result<sealed_image> try_seal(overlay& disk, const uuid& parent) {
    return io::run(*io, seal(*io, disk, parent, file_of(disk.where().id), names));
  }
  sealed_image sealed(overlay& disk, const uuid& parent) {
    auto done = try_seal(disk, parent);
    BOOST_REQUIRE_MESSAGE(done.has_value(), (done ? "" : done.error().text));
    return std::move(*done);
  }

  /// An image with a superblock and these clusters.
  std::shared_ptr<const block_index> base(const uuid& id,
                                          const std::map<cluster_number, std::uint8_t>& clusters) {
    auto disk = branch(id, nullptr);
    BOOST_TEST(write(*disk, 0, clean_superblock()) == 0);
    for (auto [guest, value] : clusters) {
      BOOST_TEST(write(*disk, guest, cluster_of(value)) == 0);
    }
    return sealed(*disk, uuid{}).index;
  }
};

} // namespace coppice::storage::test
