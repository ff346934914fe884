#include "storage/qcow2/raw_conversion.hpp"

#include "storage/error.hpp"
#include "storage/qcow2/format.hpp"
#include "storage/qcow2/sealed_file.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>

namespace coppice::storage::qcow2 {

namespace {

/// Large enough that calls cost nothing, small enough for the second-level caches around.
constexpr std::size_t buffer_bytes = 4u << 20;

constexpr std::size_t unit = cluster_bytes_written;
constexpr std::array<std::byte, unit> zeros{};

} // namespace

raw_conversion::raw_conversion(const file& raw, std::uint64_t disk_bytes, file& out)
    : raw_{raw}, disk_bytes_{disk_bytes}, out_{out},
      buffer_(buffer_bytes), written_end_{data_begin(disk_bytes)} {
  // nop
}

result<void> raw_conversion::run() {
  for (std::uint64_t at = 0; at < disk_bytes_;) {
    auto start = next_data(at);
    if (!start) {
      return start.error();
    }
    if (*start >= disk_bytes_) {
      break;
    }
    auto end = end_of_data(*start);
    if (!end) {
      return end.error();
    }
    // A cluster with two pieces of data in it was copied with the first.
    auto from = std::max(*start / unit * unit, at);
    auto until = std::min(divide_up(*end, unit) * unit, disk_bytes_);
    if (auto done = copy_range(from, until); !done) {
      return done;
    }
    at = until;
  }
  return finish();
}

/// The end of the disk if only holes follow.
result<std::uint64_t> raw_conversion::next_data(std::uint64_t from) const {
  auto found = ::lseek(raw_.fd(), static_cast<off_t>(from), SEEK_DATA);
  if (found < 0 && errno == ENXIO) {
    return disk_bytes_;
  }
  if (found < 0) {
    return io_failure(errno, "cannot look for data in " + raw_.path().string());
  }
  return static_cast<std::uint64_t>(found);
}

result<std::uint64_t> raw_conversion::end_of_data(std::uint64_t from) const {
  auto found = ::lseek(raw_.fd(), static_cast<off_t>(from), SEEK_HOLE);
  if (found < 0) {
    return io_failure(errno, "cannot look for holes in " + raw_.path().string());
  }
  return std::min(static_cast<std::uint64_t>(found), disk_bytes_);
}

/// Precondition: `from` is the start of a cluster, `end` that of another or the end of the disk.
/// Reads into the free space of the buffer and closes the gaps that clusters of zeros leave.
result<void> raw_conversion::copy_range(std::uint64_t from, std::uint64_t end) {
  while (from < end) {
    auto space = std::span{buffer_}.subspan(used_bytes_);
    auto length = static_cast<std::size_t>(std::min<std::uint64_t>(end - from, space.size()));
    auto got = raw_.read_at(from, space.first(length));
    if (!got) {
      return got.error();
    }
    if (*got != length) {
      return fail(ec::io, raw_.path().string() + ": became shorter while it was read");
    }
    // The disk may end inside a cluster, the file has whole ones.
    auto whole = space.first(static_cast<std::size_t>(divide_up(length, unit) * unit));
    std::fill(whole.begin() + static_cast<std::ptrdiff_t>(length), whole.end(), std::byte{0});
    for (std::size_t at = 0; at < whole.size(); at += unit) {
      auto one = whole.subspan(at, unit);
      if (std::memcmp(one.data(), zeros.data(), unit) != 0) {
        keep((from + at) / unit, one);
      }
    }
    from += length;
    if (used_bytes_ == buffer_.size()) {
      if (auto done = flush(); !done) {
        return done;
      }
    }
  }
  return {};
}

/// `bytes` is in the buffer, at its place or behind it.
void raw_conversion::keep(std::uint64_t guest, std::span<const std::byte> bytes) {
  auto* place = buffer_.data() + used_bytes_;
  if (bytes.data() != place) {
    std::memcpy(place, bytes.data(), unit); // places are whole clusters apart
  }
  append_extent(own_, {static_cast<cluster_number>(guest), 1,
                       static_cast<cluster_number>(written_end_ + used_bytes_ / unit)});
  checksums_.push_back(checksum({place, unit}));
  used_bytes_ += unit;
}

result<void> raw_conversion::flush() {
  auto bytes = std::span{buffer_}.first(used_bytes_);
  if (auto done = out_.write_at(written_end_ * unit, bytes); !done) {
    return done;
  }
  written_end_ += used_bytes_ / unit;
  used_bytes_ = 0;
  return {};
}

result<void> raw_conversion::finish() {
  if (auto done = flush(); !done) {
    return done;
  }
  auto tables = build_tables(disk_bytes_, std::nullopt, own_,
                             static_cast<cluster_number>(written_end_), checksums_);
  for (const auto& each : tables.writes) {
    if (auto done = out_.write_at(each.offset_bytes, each.bytes); !done) {
      return done;
    }
  }
  return {};
}

} // namespace coppice::storage::qcow2
