#include "storage/ring/ring.hpp"
#include "storage/ring/signals.hpp"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace coppice::storage {

namespace {

using call = io_request::call;

struct job {
  io_request* request;
  io_request* next = nullptr;    ///< starts when `request` has done all, or null
  std::uint64_t moved_bytes = 0; ///< of a socket's request
};

/// Whether it waits for a peer. Such requests never go to the threads, which they would all hold.
bool is_stream(const io_request& request) {
  return request.what == call::receive || request.what == call::send ||
         (request.what == call::read && request.offset == io_request::no_offset);
}

bool has_done_all(const io_request& request) {
  switch (request.what) {
  case call::read:
  case call::write:
  case call::receive:
  case call::send:
    return request.result >= 0 && static_cast<std::uint64_t>(request.result) == request.length;
  default:
    return request.result >= 0;
  }
}

std::int64_t blocking_call(const io_request& r) {
  auto offset = static_cast<off_t>(r.offset);
  switch (r.what) {
  case call::open:
    return ::openat(AT_FDCWD, r.path, r.flags, r.mode);
  case call::close:
    return ::close(r.fd);
  case call::read:
    return ::pread(r.fd, r.buffer, r.length, offset);
  case call::write:
    return ::pwrite(r.fd, r.buffer, r.length, offset);
  case call::sync_data:
    return ::fdatasync(r.fd);
  case call::sync:
    return ::fsync(r.fd);
  case call::allocate:
    return ::fallocate(r.fd, r.flags, offset, static_cast<off_t>(r.length));
  case call::rename:
    return ::renameat2(AT_FDCWD, r.path, AT_FDCWD, r.path_to, static_cast<unsigned>(r.flags));
  case call::remove:
    return ::unlinkat(AT_FDCWD, r.path, r.flags);
  case call::stat:
    return ::statx(r.path ? AT_FDCWD : r.fd, r.path ? r.path : "",
                   r.flags | (r.path ? 0 : AT_EMPTY_PATH), STATX_BASIC_STATS, r.status);
  case call::receive:
  case call::send:
    break;
  }
  errno = EINVAL;
  return -1;
}

/// Moves what can be moved now. False: the request goes on waiting.
bool advance(job& stream) {
  auto& r = *stream.request;
  auto* at = static_cast<std::byte*>(r.buffer) + stream.moved_bytes;
  auto left = r.length - stream.moved_bytes;
  ssize_t n = 0;
  if (r.what == call::receive) {
    n = ::recv(r.fd, at, left, r.flags | MSG_DONTWAIT);
  } else if (r.what == call::send) {
    n = ::send(r.fd, at, left, r.flags | MSG_DONTWAIT | MSG_NOSIGNAL);
  } else {
    n = ::read(r.fd, at, left);
  }
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    return false;
  }
  if (n < 0 && stream.moved_bytes == 0) {
    r.result = -errno;
    return true;
  }
  if (n > 0) {
    stream.moved_bytes += static_cast<std::uint64_t>(n);
    auto wants_all =
        r.what != call::read && ((r.flags & MSG_WAITALL) != 0 || stream.next != nullptr);
    if (wants_all && stream.moved_bytes < r.length) {
      return false;
    }
  }
  r.result = static_cast<std::int64_t>(stream.moved_bytes);
  return true;
}

/// Threads that make blocking calls, one at a time each, in the order in which they came.
class pool {
public:
  explicit pool(unsigned threads) : bell_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)} {
    if (bell_ < 0) {
      throw std::system_error{errno, std::generic_category(), "eventfd"};
    }
    without_signals guard;
    for (unsigned i = 0; i < std::max(threads, 1u); ++i) {
      threads_.emplace_back([this] { work(); });
      ::pthread_setname_np(threads_.back().native_handle(), "disk-calls");
    }
  }

  ~pool() {
    {
      std::lock_guard guard{mutex_};
      is_stopping_ = true;
    }
    wake_.notify_all();
    for (auto& thread : threads_) {
      thread.join();
    }
    ::close(bell_);
  }
  pool(const pool&) = delete;
  pool& operator=(const pool&) = delete;

  void take(const job& next) {
    {
      std::lock_guard guard{mutex_};
      jobs_.push_back(next);
    }
    wake_.notify_one();
  }

  /// Can be read while ended jobs wait to be collected.
  int bell() const {
    return bell_;
  }

  /// Exchanges `empty` for what has ended.
  void collect(std::vector<job>& empty) {
    std::lock_guard guard{mutex_};
    eventfd_t rung = 0;
    ::eventfd_read(bell_, &rung);
    ended_.swap(empty);
  }

private:
  void work() {
    std::unique_lock lock{mutex_};
    for (;;) {
      wake_.wait(lock, [this] { return is_stopping_ || !jobs_.empty(); });
      if (jobs_.empty()) {
        return;
      }
      auto next = jobs_.front();
      jobs_.pop_front();
      lock.unlock();
      auto result = blocking_call(*next.request);
      next.request->result = result < 0 ? -errno : result;
      lock.lock();
      ended_.push_back(next);
      if (ended_.size() == 1) {
        ::eventfd_write(bell_, 1);
      }
    }
  }

  int bell_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool is_stopping_ = false;
  std::deque<job> jobs_;   ///< bounded by what the owner has in the air
  std::vector<job> ended_; ///< the same
  std::vector<std::thread> threads_;
};

class thread_ring final : public ring {
public:
  explicit thread_ring(unsigned threads) : pool_{threads} {
    // nop
  }

  void submit(io_request& request) override {
    ++pending_;
    begin({&request});
  }

  void submit_linked(io_request& first, io_request& second) override {
    pending_ += 2;
    begin({&first, &second});
  }

  void turn() override {
    if (pending_ == 0) {
      return;
    }
    while (ended_.empty()) {
      wait();
    }
    // `done` may ask for more, and that may end at once.
    delivered_.swap(ended_);
    for (auto* request : delivered_) {
      --pending_;
      request->done(*request);
    }
    delivered_.clear();
  }

  std::size_t pending() const override {
    return pending_;
  }

private:
  void begin(const job& next) {
    if (is_stream(*next.request)) {
      streams_.push_back(next);
    } else {
      pool_.take(next);
    }
  }

  void end(const job& which) {
    ended_.push_back(which.request);
    if (which.next == nullptr) {
      return;
    }
    if (has_done_all(*which.request)) {
      begin({which.next});
    } else {
      which.next->result = -ECANCELED;
      ended_.push_back(which.next);
    }
  }

  /// Until a thread has ended a job or a stream can go on.
  void wait() {
    polled_.assign(1, {pool_.bell(), POLLIN, 0});
    for (const auto& stream : streams_) {
      auto event = stream.request->what == call::send ? POLLOUT : POLLIN;
      polled_.push_back({stream.request->fd, static_cast<short>(event), 0});
    }
    if (::poll(polled_.data(), polled_.size(), -1) < 0) {
      if (errno == EINTR) {
        return;
      }
      throw std::system_error{errno, std::generic_category(), "poll"};
    }
    advance_streams();
    if (polled_.front().revents != 0) {
      pool_.collect(collected_);
      for (const auto& which : collected_) {
        end(which);
      }
      collected_.clear();
    }
  }

  void advance_streams() {
    waited_.swap(streams_);
    for (std::size_t i = 0; i < waited_.size(); ++i) {
      if (polled_[i + 1].revents != 0 && advance(waited_[i])) {
        end(waited_[i]); // which may begin a stream
      } else {
        streams_.push_back(waited_[i]);
      }
    }
    waited_.clear();
  }

  std::size_t pending_ = 0;
  std::vector<job> streams_;
  std::vector<io_request*> ended_;

  // Empty between two calls; members for their memory's sake.
  std::vector<pollfd> polled_;
  std::vector<job> waited_;
  std::vector<job> collected_;
  std::vector<io_request*> delivered_;

  pool pool_; // last: its threads end first
};

} // namespace

std::unique_ptr<ring> make_thread_ring(unsigned threads) {
  return std::make_unique<thread_ring>(threads);
}

} // namespace coppice::storage
