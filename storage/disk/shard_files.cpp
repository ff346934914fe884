// What a shard does with the files of images beside serving them.

#include "storage/disk/shard.hpp"
#include "storage/error.hpp"
#include "storage/ring/io.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace coppice::storage {

namespace {

/// One call gives back 16 MiB at most: who reads or writes beside it waits no longer than that.
constexpr cluster_number punched_at_once = 4096;

/// Read-only by name, like the seal and the import leave it (storage/store.hpp).
constexpr mode_t sealed_mode = 0400;

/// A descriptor that may punch. A daemon that is not root owns the file but may not open it so:
/// the owner may change that, and it is changed back as soon as it is open. A crash in between
/// leaves a file that its owner could write to, until it is punched again.
task<result<int>> open_to_punch(ring& on, std::string path) {
  auto opened = co_await io::open(on, path, O_RDWR);
  if (opened.has_error() && opened.error().code == ec::io) {
    auto readable = co_await io::open(on, path, O_RDONLY);
    if (readable.has_error()) {
      co_return readable.error();
    }
    const auto may_change = ::fchmod(*readable, sealed_mode | S_IWUSR) == 0;
    if (may_change) {
      opened = co_await io::open(on, path, O_RDWR);
    }
    ::close(*readable);
  }
  if (opened) {
    static_cast<void>(::fchmod(*opened, sealed_mode));
  }
  co_return opened;
}

task<result<void>> punch_all(ring& on, int fd, std::vector<own_extent> clusters, std::string name) {
  for (auto run : clusters) {
    while (run.count > 0) {
      const auto count = std::min(run.count, punched_at_once);
      auto punched = co_await io::punch_hole(on, fd, std::uint64_t{run.file} << cluster_bits,
                                             std::uint64_t{count} << cluster_bits, name);
      if (punched.has_error()) {
        co_return punched;
      }
      run.file += count;
      run.count -= count;
    }
  }
  co_return result<void>{};
}

} // namespace

task<result<engine::file_piece>> shard::read_file(uuid image, std::uint64_t offset_bytes,
                                                  std::size_t bytes_max) {
  visits::one under_way{visits_};
  auto file = co_await files_.open(image);
  if (file.has_error()) {
    co_return file.error();
  }
  const auto name = image_file(image).string();
  auto status = co_await io::status(ring_, file->fd(), name);
  if (status.has_error()) {
    co_return status.error();
  }
  engine::file_piece out{{}, status->size_bytes};
  if (offset_bytes < out.file_bytes) {
    out.bytes.resize(std::min<std::uint64_t>(bytes_max, out.file_bytes - offset_bytes));
    auto done = co_await io::read(ring_, file->fd(), offset_bytes, out.bytes, name);
    if (done.has_error()) {
      co_return done.error();
    }
  }
  co_return out;
}

task<result<std::uint64_t>> shard::punch(uuid image, std::vector<own_extent> clusters) {
  visits::one under_way{visits_};
  const auto name = image_file(image).string();
  auto fd = co_await open_to_punch(ring_, name);
  if (fd.has_error()) {
    co_return fd.error();
  }
  auto before = co_await io::status(ring_, *fd, name);
  auto done = co_await punch_all(ring_, *fd, std::move(clusters), name);
  auto after = co_await io::status(ring_, *fd, name);
  co_await io::close(ring_, *fd);
  if (done.has_error()) {
    co_return done.error();
  }
  if (before.has_error() || after.has_error()) {
    co_return std::uint64_t{0};
  }
  // A file system may need a block to describe the hole.
  co_return before->allocated_bytes - std::min(before->allocated_bytes, after->allocated_bytes);
}

task<result<std::uint64_t>> shard::remove_file(uuid image) {
  visits::one under_way{visits_};
  const auto name = image_file(image).string();
  std::uint64_t freed = 0;
  auto fd = co_await io::open(ring_, name, O_RDONLY);
  if (fd) {
    auto status = co_await io::status(ring_, *fd, name);
    co_await io::close(ring_, *fd);
    freed = status ? status->allocated_bytes : 0;
  }
  auto removed = co_await io::remove(ring_, name);
  if (removed.has_error()) {
    co_return removed.error();
  }
  co_return *removed ? freed : 0;
}

} // namespace coppice::storage
