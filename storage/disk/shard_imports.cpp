// What a shard does with the file that an import has left.

#include "storage/disk/shard.hpp"
#include "storage/error.hpp"
#include "storage/ring/io.hpp"

#include <fcntl.h>

#include <algorithm>
#include <utility>

namespace coppice::storage {

task<result<import_file>> shard::open_import(uuid image) {
  visits::one under_way{visits_};
  import_file out;
  out.name = overlay_file(image).string();
  auto fd = co_await io::open(ring_, out.name, O_RDWR);
  if (fd.has_error()) {
    co_return fd.error();
  }
  out.fd = *fd;
  result<void> done;
  auto status = co_await io::status(ring_, out.fd, out.name);
  if (status.has_error()) {
    done = status.error();
  } else if (!status->is_regular) {
    done = fail(ec::damaged, out.name + ": not a regular file");
  } else {
    out.size_bytes = status->size_bytes;
  }
  if (done.has_error()) {
    co_await io::close(ring_, out.fd);
    co_return done.error();
  }
  co_return out;
}

task<result<engine::file_piece>> shard::read_import(import_file from, std::uint64_t offset_bytes,
                                                    std::size_t bytes_max) {
  visits::one under_way{visits_};
  engine::file_piece out{{}, from.size_bytes};
  if (offset_bytes < out.file_bytes) {
    out.bytes.resize(std::min<std::uint64_t>(bytes_max, out.file_bytes - offset_bytes));
    auto done = co_await io::read(ring_, from.fd, offset_bytes, out.bytes, from.name);
    if (done.has_error()) {
      co_return done.error();
    }
  }
  co_return out;
}

task<result<sealed_image>> shard::close_import(import_file from, failure why) {
  visits::one under_way{visits_};
  co_await io::close(ring_, from.fd);
  co_return why;
}

task<result<sealed_image>> shard::name_import(uuid image, import_file from,
                                              std::shared_ptr<const block_index> index) {
  visits::one under_way{visits_};
  const auto target = image_file(image).string();
  sealed_image out{false, std::move(index), 0};
  auto done = co_await io::sync_data(ring_, from.fd, from.name);
  if (done) {
    // After the sync: until then the kernel may not have chosen.
    auto status = co_await io::status(ring_, from.fd, from.name);
    if (status) {
      out.own_bytes = status->allocated_bytes;
    } else {
      done = status.error();
    }
  }
  co_await io::close(ring_, from.fd);
  if (done) {
    done = co_await io::rename(ring_, from.name, target);
  }
  if (done.has_error()) {
    co_return done.error();
  }
  auto named = co_await names_.sync();
  if (named.has_error()) {
    co_await io::remove(ring_, target); // who reads the folder must not take it for one
    co_return named.error();
  }
  co_return out;
}

} // namespace coppice::storage
