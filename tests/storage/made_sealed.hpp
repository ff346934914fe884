#pragma once

#include "storage/file.hpp"
#include "storage/qcow2/format.hpp"
#include "storage/qcow2/sealed_file.hpp"
#include "tests/storage/scratch.hpp"

#include <boost/test/unit_test.hpp>

#include <fcntl.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <vector>

/// A sealed file as the store makes one: clusters first, in any order, then everything else.
namespace coppice::storage::test {

class made_sealed {
public:
  made_sealed(std::uint64_t disk_bytes, std::optional<uuid> parent = std::nullopt)
      : disk_bytes_{disk_bytes}, parent_{parent}, end_{qcow2::data_begin(disk_bytes)} {}

  /// The next cluster of the file: `pattern` all over it, for that cluster of the disk.
  made_sealed& data(cluster_number guest, std::uint8_t pattern) {
    clusters_[guest] = {guest, 1, end_};
    patterns_[guest] = pattern;
    ++end_;
    return *this;
  }

  made_sealed& zeros(cluster_number guest, cluster_number count) {
    for (cluster_number i = 0; i < count; ++i) {
      clusters_[guest + i] = {guest + i, 1, own_extent::zeros};
    }
    return *this;
  }

  /// Clusters of the file that were given up again.
  made_sealed& hole(cluster_number count) {
    end_ += count;
    return *this;
  }

  std::vector<own_extent> own() const {
    std::vector<own_extent> out;
    for (const auto& [guest, extent] : clusters_) {
      qcow2::append_extent(out, extent);
    }
    return out;
  }

  std::vector<std::uint32_t> checksums() const {
    std::vector<std::uint32_t> out;
    for (const auto& [guest, extent] : clusters_) {
      if (extent.file != own_extent::zeros) {
        out.push_back(qcow2::checksum(content_of(guest)));
      }
    }
    return out;
  }

  qcow2::sealed_tables tables() const {
    return qcow2::build_tables(disk_bytes_, parent_, own(), end_, checksums());
  }

  void write_to(const std::filesystem::path& path) const {
    auto out = file::open(path, O_RDWR | O_CREAT | O_EXCL);
    BOOST_REQUIRE(out);
    for (const auto& [guest, extent] : clusters_) {
      if (extent.file != own_extent::zeros) {
        BOOST_REQUIRE(out->write_at(extent.file * cluster_bytes, content_of(guest)));
      }
    }
    auto made = tables();
    for (const auto& each : made.writes) {
      BOOST_REQUIRE_EQUAL(each.offset_bytes % cluster_bytes, 0u);
      BOOST_REQUIRE_EQUAL(each.bytes.size() % cluster_bytes, 0u);
      BOOST_REQUIRE(out->write_at(each.offset_bytes, each.bytes));
    }
    BOOST_REQUIRE_EQUAL(made.writes.back().offset_bytes, 0u);
    BOOST_REQUIRE_EQUAL(out->size_bytes().value(), made.file_bytes);
  }

  /// Only for files that end within some megabytes.
  std::vector<std::byte> bytes() const {
    auto made = tables();
    std::vector<std::byte> out(made.file_bytes);
    auto put = [&](std::uint64_t offset, std::span<const std::byte> piece) {
      std::copy(piece.begin(), piece.end(), out.begin() + static_cast<std::ptrdiff_t>(offset));
    };
    for (const auto& each : made.writes) {
      put(each.offset_bytes, each.bytes);
    }
    for (const auto& [guest, extent] : clusters_) {
      if (extent.file != own_extent::zeros) {
        put(extent.file * cluster_bytes, content_of(guest));
      }
    }
    return out;
  }

  /// Changes a raw disk as the file does.
  void apply_to(const std::filesystem::path& raw) const {
    for (const auto& [guest, extent] : clusters_) {
      auto is_zeros = extent.file == own_extent::zeros;
      write_at(raw, guest * cluster_bytes,
               is_zeros ? std::vector<std::byte>(cluster_bytes) : content_of(guest));
    }
  }

  cluster_number data_end() const {
    return end_;
  }

private:
  std::vector<std::byte> content_of(cluster_number guest) const {
    return std::vector<std::byte>(cluster_bytes, std::byte{patterns_.at(guest)});
  }

  std::uint64_t disk_bytes_;
  std::optional<uuid> parent_;
  cluster_number end_;
  std::map<cluster_number, own_extent> clusters_;
  std::map<cluster_number, std::uint8_t> patterns_;
};

} // namespace coppice::storage::test
