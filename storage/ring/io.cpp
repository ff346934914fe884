#include "storage/ring/io.hpp"

#include "storage/error.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

namespace coppice::storage::io {

namespace {

using call = io_request::call;

/// EINTR and EAGAIN tell of a moment, not of the file; what goes on telling so is broken.
constexpr int interruptions_max = 16;

bool is_interruption(std::int64_t result) {
  return result == -EINTR || result == -EAGAIN;
}

failure failed(std::int64_t result, const std::string& what) {
  if (result == -EEXIST) {
    return fail(ec::conflict, "cannot " + what + ": it is already there");
  }
  return io_failure(static_cast<int>(-result), "cannot " + what);
}

/// Awaits two linked requests.
class once_linked {
public:
  once_linked(ring& on, const io_request& first, const io_request& second)
      : ring_{on}, first_{first, this}, second_{second, this} {
    first_.done = second_.done = [](io_request& ended) {
      auto* self = static_cast<half&>(ended).owner;
      if (--self->left_ == 0) {
        self->caller_.resume();
      }
    };
  }
  once_linked(const once_linked&) = delete;
  once_linked& operator=(const once_linked&) = delete;

  bool await_ready() const noexcept {
    return false;
  }
  void await_suspend(std::coroutine_handle<> caller) {
    caller_ = caller;
    ring_.submit_linked(first_, second_);
  }
  void await_resume() const noexcept {}

  std::int64_t first_result() const {
    return first_.result;
  }
  std::int64_t second_result() const {
    return second_.result;
  }

private:
  struct half : io_request {
    half(const io_request& request, once_linked* whose) : io_request{request}, owner{whose} {}
    once_linked* owner;
  };
  ring& ring_;
  half first_;
  half second_;
  int left_ = 2;
  std::coroutine_handle<> caller_;
};

/// For calls that do all or nothing.
task<std::int64_t> uninterrupted(ring& on, io_request request) {
  std::int64_t result = 0;
  for (int i = 0; i <= interruptions_max; ++i) {
    once attempt{on, request};
    result = co_await attempt;
    if (!is_interruption(result)) {
      break;
    }
  }
  co_return result;
}

/// Only EINTR is tried again: after any other failure the kernel has dropped what it could not
/// write, and a second call would report success for data that is gone.
task<result<void>> flush(ring& on, io_request request, const std::string& name) {
  std::int64_t result_code = 0;
  for (int i = 0; i <= interruptions_max; ++i) {
    once attempt{on, request};
    result_code = co_await attempt;
    if (result_code != -EINTR) {
      break;
    }
  }
  if (result_code < 0) {
    co_return failed(result_code, "make durable " + name);
  }
  co_return result<void>{};
}

bool is_addressable(const io_request& request) {
  // io_uring takes the offset -1 for "where the file is".
  constexpr auto end = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
  return request.offset <= end && request.length <= end - request.offset;
}

std::string place(const io_request& request, const std::string& name) {
  const auto* verb = request.what == call::read ? "read " : "write ";
  return verb + name + " at " + std::to_string(request.offset);
}

void skip(io_request& request, std::int64_t moved_bytes) {
  auto moved = static_cast<std::uint64_t>(moved_bytes);
  request.offset += moved;
  request.length -= moved;
  request.buffer = static_cast<std::byte*>(request.buffer) + moved;
}

/// Reads or writes all.
task<result<void>> transfer(ring& on, io_request request, const std::string& name) {
  if (!is_addressable(request)) {
    co_return failed(-EFBIG, place(request, name));
  }
  int interruptions = 0;
  while (request.length > 0) {
    once attempt{on, request};
    auto moved = co_await attempt;
    if (is_interruption(moved) && interruptions < interruptions_max) {
      ++interruptions;
      continue;
    }
    if (moved == 0 && request.what == call::read) {
      co_return fail(ec::io, "cannot " + place(request, name) + ": the file ends " +
                                 std::to_string(request.length) + " bytes too early");
    }
    if (moved <= 0) {
      co_return failed(moved < 0 ? moved : -EIO, place(request, name));
    }
    skip(request, moved);
  }
  co_return result<void>{};
}

io_request write_request(int fd, std::uint64_t offset_bytes, std::span<const std::byte> data) {
  io_request out;
  out.what = call::write;
  out.fd = fd;
  out.offset = offset_bytes;
  out.buffer = const_cast<std::byte*>(data.data()); // only read from
  out.length = data.size();
  return out;
}

io_request sync_request(call what, int fd) {
  io_request out;
  out.what = what;
  out.fd = fd;
  return out;
}

} // namespace

once::once(ring& on, io_request request) : ring_{on}, request_{request, nullptr} {
  request_.done = [](io_request& ended) {
    static_cast<waiting&>(ended).caller.resume();
  };
}

void once::await_suspend(std::coroutine_handle<> caller) {
  request_.caller = caller;
  ring_.submit(request_);
}

task<result<int>> open(ring& on, const std::string& path, int flags, mode_t mode) {
  io_request request;
  request.what = call::open;
  request.path = path.c_str();
  request.flags = flags | O_CLOEXEC | O_NOFOLLOW;
  request.mode = mode;
  auto opening = uninterrupted(on, request);
  auto fd = co_await opening;
  if (fd < 0) {
    co_return failed(fd, "open " + path);
  }
  co_return static_cast<int>(fd);
}

task<void> close(ring& on, int fd) {
  // Not tried again: Linux has given the descriptor back even when it says EINTR.
  io_request request;
  request.what = call::close;
  request.fd = fd;
  once attempt{on, request};
  co_await attempt;
}

task<result<void>> read(ring& on, int fd, std::uint64_t offset_bytes, std::span<std::byte> out,
                        const std::string& name) {
  io_request request;
  request.what = call::read;
  request.fd = fd;
  request.offset = offset_bytes;
  request.buffer = out.data();
  request.length = out.size();
  return transfer(on, request, name);
}

task<result<void>> write(ring& on, int fd, std::uint64_t offset_bytes,
                         std::span<const std::byte> data, const std::string& name) {
  return transfer(on, write_request(fd, offset_bytes, data), name);
}

task<result<void>> write_durably(ring& on, int fd, std::uint64_t offset_bytes,
                                 std::span<const std::byte> data, const std::string& name) {
  auto request = write_request(fd, offset_bytes, data);
  if (!is_addressable(request)) {
    co_return failed(-EFBIG, place(request, name));
  }
  once_linked pair{on, request, sync_request(call::sync_data, fd)};
  co_await pair;
  auto written = pair.first_result();
  auto synced = pair.second_result();
  if (written < 0 && !is_interruption(written)) {
    co_return failed(written, place(request, name));
  }
  if (synced < 0 && synced != -ECANCELED && synced != -EINTR) {
    co_return failed(synced, "make durable " + name);
  }
  if (written >= 0) {
    skip(request, written);
  }
  if (request.length == 0 && synced >= 0) {
    co_return result<void>{};
  }
  // A write that ended short has broken the link.
  auto rest = transfer(on, request, name);
  auto wrote_rest = co_await rest;
  if (!wrote_rest) {
    co_return wrote_rest;
  }
  auto flushing = flush(on, sync_request(call::sync_data, fd), name);
  auto flushed = co_await flushing;
  co_return flushed;
}

task<result<void>> sync_data(ring& on, int fd, const std::string& name) {
  return flush(on, sync_request(call::sync_data, fd), name);
}

task<result<void>> sync_directory(ring& on, const std::string& path) {
  auto opening = open(on, path, O_RDONLY | O_DIRECTORY);
  auto fd = co_await opening;
  if (!fd) {
    co_return fd.error();
  }
  auto flushing = flush(on, sync_request(call::sync, *fd), path);
  auto flushed = co_await flushing;
  auto closing = close(on, *fd);
  co_await closing;
  co_return flushed;
}

task<result<void>> punch_hole(ring& on, int fd, std::uint64_t offset_bytes,
                              std::uint64_t length_bytes, const std::string& name) {
  io_request request;
  request.what = call::allocate;
  request.fd = fd;
  request.flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  request.offset = offset_bytes;
  request.length = length_bytes;
  auto punching = uninterrupted(on, request);
  auto punched = co_await punching;
  if (punched < 0) {
    co_return failed(punched, "give back " + std::to_string(length_bytes) + " bytes of " + name +
                                  " at " + std::to_string(offset_bytes));
  }
  co_return result<void>{};
}

task<result<void>> rename(ring& on, const std::string& from, const std::string& to) {
  io_request request;
  request.what = call::rename;
  request.path = from.c_str();
  request.path_to = to.c_str();
  request.flags = RENAME_NOREPLACE;
  auto renaming = uninterrupted(on, request);
  auto renamed = co_await renaming;
  if (renamed < 0) {
    co_return failed(renamed, "rename " + from + " to " + to);
  }
  co_return result<void>{};
}

task<result<bool>> remove(ring& on, const std::string& path) {
  io_request request;
  request.what = call::remove;
  request.path = path.c_str();
  auto removing = uninterrupted(on, request);
  auto removed = co_await removing;
  if (removed < 0 && removed != -ENOENT) {
    co_return failed(removed, "remove " + path);
  }
  co_return removed == 0;
}

task<result<file_status>> status(ring& on, int fd, const std::string& name) {
  struct statx found {};
  io_request request;
  request.what = call::stat;
  request.fd = fd;
  request.status = &found;
  auto looking = uninterrupted(on, request);
  auto looked = co_await looking;
  if (looked < 0) {
    co_return failed(looked, "look at " + name);
  }
  file_status out;
  out.size_bytes = found.stx_size;
  out.allocated_bytes = found.stx_blocks * 512; // unit of statx(2), whatever the disk
  out.is_regular = S_ISREG(found.stx_mode);
  co_return out;
}

} // namespace coppice::storage::io
