#include "storage/disk/overlay.hpp"

#include "storage/disk/batch.hpp"
#include "storage/error.hpp"
#include "storage/qcow2/sealed_file.hpp"
#include "storage/ring/io.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace coppice::storage {

namespace {

cluster_number clusters_of(std::uint64_t bytes) {
  return static_cast<cluster_number>(bytes >> cluster_bits);
}

std::uint64_t bytes_of(cluster_number clusters) {
  return std::uint64_t{clusters} << cluster_bits;
}

/// 0, or the errno of the first request that did not do all it was asked.
int first_error(const batch& requests) {
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto& r = requests[i];
    if (r.result < 0) {
      return static_cast<int>(-r.result);
    }
    if (r.what != io_request::call::allocate && static_cast<std::uint64_t>(r.result) != r.length) {
      return EIO; // whole clusters of files that nobody shortens
    }
  }
  return 0;
}

} // namespace

/// A request in the air.
class overlay::visit {
public:
  explicit visit(overlay& of) : of_{of} {
    ++of_.in_flight_;
  }
  ~visit() {
    if (--of_.in_flight_ == 0) {
      of_.space_.settle();
    }
  }
  visit(const visit&) = delete;
  visit& operator=(const visit&) = delete;

private:
  overlay& of_;
};

overlay::overlay(ring& on, sealed_files& files, std::shared_ptr<const block_index> below,
                 place where)
    : ring_{on}, files_{files}, below_{std::move(below)}, where_{std::move(where)},
      space_{qcow2::data_begin(where_.disk_bytes)} {}

overlay::~overlay() {
  if (fd_ >= 0) {
    ::close(fd_);
  }
}

std::uint64_t overlay::bytes_used() const {
  return space_.used() << cluster_bits;
}

int overlay::refuse(int error_number, failure why) {
  if (!trouble_) {
    trouble_ = std::move(why);
  }
  return error_number;
}

task<int> overlay::read(std::uint64_t offset_bytes, std::span<std::byte> out) {
  visit in_the_air{*this};
  co_return co_await fetch(clusters_of(offset_bytes), out, true);
}

task<int> overlay::read_below(std::uint64_t offset_bytes, std::span<std::byte> out) {
  co_return co_await fetch(clusters_of(offset_bytes), out, false);
}

task<int> overlay::fetch(cluster_number guest, std::span<std::byte> out, bool own_too) {
  batch reads{ring_};
  std::vector<sealed_files::lease> leases;
  while (!out.empty()) {
    auto count = clusters_of(out.size());
    auto own = own_too ? map_.get(guest) : cluster_map::absent;
    if (own_too) {
      count = map_.run_length(guest, count);
    }
    io_request r;
    r.what = io_request::call::read;
    if (own != cluster_map::absent && own != cluster_map::zeros) {
      r.fd = fd_;
      r.offset = bytes_of(own);
    } else if (own == cluster_map::absent && below_) {
      auto run = below_->find(guest, count);
      count = run.count;
      if (run.file) {
        auto lease = co_await files_.open(*run.file);
        if (lease.has_error()) {
          co_return refuse(EIO, lease.error());
        }
        r.fd = lease->fd();
        r.offset = bytes_of(run.file_cluster);
        leases.push_back(std::move(*lease));
      }
    }
    auto part = out.first(bytes_of(count));
    if (r.fd >= 0) {
      r.buffer = part.data();
      r.length = part.size();
      reads.add(r);
    } else {
      std::memset(part.data(), 0, part.size());
    }
    guest += count;
    out = out.subspan(part.size());
  }
  co_await reads.all();
  auto error = first_error(reads);
  if (error != 0) {
    refuse(error, io_failure(error, "cannot read the disk of " + where_.id.text()));
  }
  co_return error;
}

task<int> overlay::open_file() {
  if (fd_ >= 0) {
    co_return 0;
  }
  if (is_opening_) {
    // Another write is at it; it wakes us with the descriptor or without.
    struct wait {
      std::vector<std::coroutine_handle<>>& line;
      bool await_ready() const noexcept {
        return false;
      }
      void await_suspend(std::coroutine_handle<> caller) {
        line.push_back(caller);
      }
      void await_resume() const noexcept {
        // fd_ tells
      }
    };
    co_await wait{wait_for_file_};
    co_return fd_ >= 0 ? 0 : EIO;
  }
  is_opening_ = true;
  // Read-only by name from the start: only this descriptor may write to what becomes an image.
  auto opened = co_await io::open(ring_, where_.file.string(), O_RDWR | O_CREAT | O_EXCL, 0400);
  is_opening_ = false;
  int error = 0;
  if (opened.has_error()) {
    auto no_space = opened.error().code == make_error_code(ec::no_space);
    error = refuse(no_space ? ENOSPC : EIO, opened.error());
  } else {
    fd_ = *opened;
  }
  for (auto next : std::exchange(wait_for_file_, {})) {
    next.resume();
  }
  co_return error;
}

task<int> overlay::write(std::uint64_t offset_bytes, std::span<const std::byte> data) {
  visit in_the_air{*this};
  auto error = co_await open_file();
  auto guest = clusters_of(offset_bytes);
  while (error == 0 && !data.empty()) {
    // In pieces, so that a long write beyond the limit is refused where it crosses it.
    auto count = map_.run_length(guest, clusters_of(data.size()));
    auto part = data.first(bytes_of(count));
    error = co_await write_run(guest, part);
    guest += count;
    data = data.subspan(part.size());
  }
  co_return error;
}

task<int> overlay::write_run(cluster_number guest, std::span<const std::byte> data) {
  auto old = map_.get(guest);
  auto count = clusters_of(data.size());
  batch writes{ring_};
  std::vector<std::pair<cluster_number, cluster_number>> taken;
  auto add = [&](cluster_number file, std::span<const std::byte> part) {
    io_request r;
    r.what = io_request::call::write;
    r.fd = fd_;
    r.offset = bytes_of(file);
    r.buffer = const_cast<std::byte*>(part.data()); // the call only reads it
    r.length = part.size();
    writes.add(r);
  };
  auto is_new = old == cluster_map::absent || old == cluster_map::zeros;
  if (!is_new) {
    add(old, data);
  } else {
    if (space_.used() + count > clusters_of(where_.own_bytes_max)) {
      auto text = "the disk's changes took " + std::to_string(bytes_used()) + " bytes when " +
                  std::to_string(data.size()) + " more were written; the limit is " +
                  std::to_string(where_.own_bytes_max) + " bytes";
      co_return refuse(ENOSPC, fail(ec::too_large, std::move(text)));
    }
    for (cluster_number done = 0; done < count;) {
      auto run = space_.take(count - done);
      taken.push_back(run);
      add(run.first, data.subspan(bytes_of(done), bytes_of(run.second)));
      done += run.second;
    }
  }
  co_await writes.all();
  auto error = co_await write_rest(writes);
  if (error != 0) {
    co_await release(std::move(taken));
    co_return refuse(error, io_failure(error, "cannot write to " + where_.file.string()));
  }
  // Only now: until here the old content was shown. Whoever wrote the same cluster meanwhile loses
  // its place to us, as two writes at once may end in any order.
  std::vector<std::pair<cluster_number, cluster_number>> replaced;
  for (auto [file, length] : taken) {
    for (auto end = guest + length; guest < end; ++guest, ++file) {
      auto before = map_.get(guest);
      if (before != cluster_map::absent && before != cluster_map::zeros) {
        replaced.emplace_back(before, 1);
      }
      map_.set(guest, file);
    }
  }
  co_await release(std::move(replaced));
  co_return 0;
}

/// Writes that were cut short go on: the rest is written too, or says why not, as the last write
/// before a disk is full does not.
task<int> overlay::write_rest(const batch& writes) {
  const auto name = where_.file.string();
  for (std::size_t i = 0; i < writes.size(); ++i) {
    const auto& r = writes[i];
    if (r.result < 0) {
      co_return static_cast<int>(-r.result);
    }
    const auto done = static_cast<std::size_t>(r.result);
    if (done < r.length) {
      const std::span rest{static_cast<const std::byte*>(r.buffer) + done, r.length - done};
      auto written = co_await io::write(ring_, fd_, r.offset + done, rest, name);
      if (written.has_error()) {
        co_return written.error().code == make_error_code(ec::no_space) ? ENOSPC : EIO;
      }
    }
  }
  co_return 0;
}

task<int> overlay::release(std::vector<std::pair<cluster_number, cluster_number>> file_runs) {
  batch holes{ring_};
  for (auto [first, count] : file_runs) {
    io_request r;
    r.what = io_request::call::allocate;
    r.fd = fd_;
    r.flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    r.offset = bytes_of(first);
    r.length = bytes_of(count);
    holes.add(r);
  }
  co_await holes.all();
  // Not given back before: a hole that is still being made would eat what its next owner writes.
  for (auto [first, count] : file_runs) {
    space_.give_back(first, count);
  }
  auto error = first_error(holes);
  // Where the file system knows no holes the space comes back with the file.
  co_return error == EOPNOTSUPP ? 0 : error;
}

task<int> overlay::zero(std::uint64_t offset_bytes, std::uint64_t length_bytes) {
  visit in_the_air{*this};
  std::vector<std::pair<cluster_number, cluster_number>> freed;
  auto guest = clusters_of(offset_bytes);
  auto end = guest + clusters_of(length_bytes);
  while (guest < end) {
    auto own = map_.get(guest);
    auto count = map_.run_length(guest, end - guest);
    if (own != cluster_map::absent && own != cluster_map::zeros) {
      freed.emplace_back(own, count);
    }
    for (auto run_end = guest + count; guest < run_end;) {
      // Where nothing is below, nothing has to hide it.
      auto below = below_ ? below_->find(guest, run_end - guest)
                          : block_index::run{run_end - guest, nullptr, 0};
      auto shows = below.file ? cluster_map::zeros : cluster_map::absent;
      if (own == shows) {
        guest += below.count; // a whole disk is trimmed at once
        continue;
      }
      for (auto part_end = guest + below.count; guest < part_end; ++guest) {
        if (map_.get(guest) != shows) {
          map_.set(guest, shows);
        }
      }
    }
  }
  auto error = co_await release(std::move(freed));
  if (error != 0) {
    refuse(error, io_failure(error, "cannot give back space of " + where_.file.string()));
  }
  co_return error;
}

task<int> overlay::drop(cluster_number guest, cluster_number count) {
  std::vector<std::pair<cluster_number, cluster_number>> freed;
  for (auto end = guest + count; guest < end; ++guest) {
    auto own = map_.get(guest);
    if (own != cluster_map::absent && own != cluster_map::zeros) {
      if (!freed.empty() && freed.back().first + freed.back().second == own) {
        ++freed.back().second;
      } else {
        freed.emplace_back(own, 1);
      }
    }
    map_.set(guest, cluster_map::absent);
  }
  auto error = co_await release(std::move(freed));
  space_.settle();
  co_return error;
}

std::vector<block_device::status_run>
overlay::status(std::uint64_t offset_bytes, std::uint64_t length_bytes, std::size_t runs_max) {
  std::vector<status_run> out;
  auto guest = clusters_of(offset_bytes);
  auto end = guest + clusters_of(length_bytes);
  while (guest < end) {
    auto own = map_.get(guest);
    auto count = map_.run_length(guest, end - guest);
    auto is_zeros = own == cluster_map::zeros || (own == cluster_map::absent && !below_);
    if (own == cluster_map::absent && below_) {
      auto run = below_->find(guest, count);
      count = run.count;
      is_zeros = run.file == nullptr;
    }
    if (!out.empty() && out.back().is_zeros == is_zeros) {
      out.back().length_bytes += bytes_of(count);
    } else if (out.size() == runs_max) {
      break;
    } else {
      out.push_back({bytes_of(count), is_zeros});
    }
    guest += count;
  }
  return out;
}

} // namespace coppice::storage
