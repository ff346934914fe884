#include "gateway/http/file_sender.hpp"

#include "actors/log.hpp"
#include "vmm/unique_fd.hpp"

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <utility>

namespace coppice::gateway {
namespace {

/// Threads that may wait for a disk.
constexpr std::size_t threads_count = 4;

/// What one turn on such a thread sends before others have theirs.
constexpr std::uint64_t turn_bytes_max = 4u << 20;

/// Of one transfer: an image has its content in as many files as it has ancestors.
constexpr std::size_t files_open_max = 32;

/// What `next` reads at a time.
constexpr std::uint64_t read_bytes_max = 256u << 10;

constexpr std::size_t zeros_bytes = 64u << 10;

const char* zeros() {
  static const std::array<char, zeros_bytes> block{};
  return block.data();
}

/// The files of one transfer.
class open_files {
public:
  explicit open_files(const std::filesystem::path& folder) : folder_{folder} {}

  /// Below 0: errno says why.
  int get(const uuid& file) {
    if (auto known = files_.find(file); known != files_.end()) {
      return known->second.get();
    }
    if (files_.size() >= files_open_max) {
      files_.clear();
    }
    const auto path = folder_ / (file.text() + ".qcow2");
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0) {
      files_.emplace(file, vmm::unique_fd{fd});
    } else {
      log::error("cannot open a file of the store", "path", path.string(), "reason",
                 std::strerror(errno));
    }
    return fd;
  }

private:
  const std::filesystem::path& folder_;
  std::map<uuid, vmm::unique_fd> files_;
};

/// Where a transfer stands. Used by one thread at a time.
class transfer {
public:
  enum class state { done, blocked, more, failed };

  transfer(const std::filesystem::path& folder, int to, const std::vector<body_part>& parts)
      : files_{folder}, socket_{to}, parts_{parts} {}

  /// Sends until the socket is full or it is others' turn.
  state run() {
    std::uint64_t sent = 0;
    while (part_ < parts_.size()) {
      const auto& part = parts_[part_];
      if (done_ == part.bytes.size() + part.range.bytes) {
        ++part_;
        done_ = 0;
        continue;
      }
      if (sent >= turn_bytes_max) {
        return state::more;
      }
      const auto n = send_some(part);
      if (n < 0 && errno == EINTR) {
        continue;
      }
      if (n < 0 && errno == EAGAIN) {
        return state::blocked;
      }
      if (n <= 0) { // a file that ends early is no better than an error
        return state::failed;
      }
      done_ += static_cast<std::uint64_t>(n);
      sent += static_cast<std::uint64_t>(n);
      sent_ += static_cast<std::uint64_t>(n);
    }
    return state::done;
  }

  /// Bytes sent since this was asked before.
  std::uint64_t take_sent() {
    return std::exchange(sent_, 0);
  }

private:
  ssize_t send_some(const body_part& part) {
    const bool is_more = part_ + 1 < parts_.size();
    if (done_ < part.bytes.size()) {
      const bool is_followed = is_more || part.range.bytes > 0;
      return send_bytes(part.bytes.data() + done_, part.bytes.size() - done_, is_followed);
    }
    const auto inside = done_ - part.bytes.size();
    const auto left = static_cast<std::size_t>(
        std::min<std::uint64_t>(part.range.bytes - inside, turn_bytes_max));
    if (!part.range.file) {
      return send_bytes(zeros(), std::min(left, zeros_bytes), is_more || left > zeros_bytes);
    }
    const int file = files_.get(part.range.file);
    if (file < 0) {
      errno = EIO;
      return -1;
    }
    auto offset = static_cast<off_t>(part.range.offset_bytes + inside);
    return ::sendfile(socket_, file, &offset, left);
  }

  ssize_t send_bytes(const char* bytes, std::size_t count, bool is_followed) const {
    return ::send(socket_, bytes, count,
                  MSG_NOSIGNAL | MSG_DONTWAIT | (is_followed ? MSG_MORE : 0));
  }

  open_files files_;
  int socket_;
  const std::vector<body_part>& parts_;
  std::size_t part_ = 0;
  std::uint64_t done_ = 0; ///< of that part
  std::uint64_t sent_ = 0; ///< since `take_sent`
};

/// Runs `work` on the threads and goes on, on the caller's own executor, with what it gives. A
/// function, not any closure: GCC 12 destroys a closure that is made in the co_await twice.
template <class Result>
asio::awaitable<Result> elsewhere(asio::thread_pool& threads, std::function<Result()> work) {
  auto executor = co_await asio::this_coro::executor;
  auto initiate = [&threads, executor, work = std::move(work)](auto&& handler) mutable {
    auto shared = std::make_shared<std::decay_t<decltype(handler)>>(std::move(handler));
    asio::post(threads, [executor, shared, work = std::move(work)]() mutable {
      asio::post(executor, [shared, result = work()]() mutable {
        auto then = std::move(*shared);
        then(std::move(result));
      });
    });
  };
  co_return co_await asio::async_initiate<decltype(asio::use_awaitable), void(Result)>(
      std::move(initiate), asio::use_awaitable);
}

/// False: not by then, or the socket was closed.
asio::awaitable<bool> wait_until_writable(file_sender::socket& to,
                                          pace::clock::time_point deadline) {
  // Whoever comes second finds the other's mark; the socket may be gone by then.
  auto is_over = std::make_shared<bool>(false);
  asio::steady_timer timer{to.get_executor(), deadline};
  timer.async_wait([is_over, &to](boost::system::error_code error) {
    if (!error && !*is_over) {
      boost::system::error_code ignored;
      to.cancel(ignored);
    }
  });
  boost::system::error_code error;
  co_await to.async_wait(file_sender::socket::wait_write,
                         asio::redirect_error(asio::use_awaitable, error));
  *is_over = true;
  co_return !error;
}

/// Whole segments, whatever the parts are; unix sockets have no such thing, and need none.
void set_cork(int socket, int is_on) {
  ::setsockopt(socket, IPPROTO_TCP, TCP_CORK, &is_on, sizeof is_on);
}

/// A part of `from` of so many bytes at most; the rest stays.
body_part take_front(body_part& from, std::uint64_t bytes_max) {
  body_part out;
  out.bytes = from.bytes.substr(0, bytes_max);
  from.bytes.erase(0, out.bytes.size());
  if (from.bytes.empty()) {
    out.range = from.range;
    out.range.bytes = std::min(from.range.bytes, bytes_max - out.bytes.size());
    from.range.offset_bytes += out.range.bytes;
    from.range.bytes -= out.range.bytes;
  }
  return out;
}

answer<std::string> read_parts(const std::filesystem::path& folder,
                               const std::vector<body_part>& parts) {
  open_files files{folder};
  std::string out;
  for (const auto& part : parts) {
    out += part.bytes;
    auto at = out.size();
    out.resize(at + part.range.bytes);
    const int file = part.range.file ? files.get(part.range.file) : -1;
    auto offset = static_cast<off_t>(part.range.offset_bytes);
    while (part.range.file && at < out.size()) {
      const auto n = ::pread(file, out.data() + at, out.size() - at, offset);
      if (n < 0 && errno == EINTR) {
        continue;
      }
      if (n <= 0) {
        return refusal{500, "a file of the store cannot be read; the server's log has more"};
      }
      at += static_cast<std::size_t>(n);
      offset += n;
    }
  }
  return out;
}

} // namespace

file_sender::file_sender(std::filesystem::path images)
    : images_{std::move(images)}, threads_{threads_count} {}

file_sender::~file_sender() {
  threads_.join();
}

asio::awaitable<bool> file_sender::send(socket& to, const std::vector<body_part>& parts,
                                        pace& pace_of_client) {
  boost::system::error_code error;
  to.native_non_blocking(true, error);
  // A descriptor of our own: a connection that is closed meanwhile must not make another one's
  // socket out of the number that a thread is about to use.
  vmm::unique_fd ours{error ? -1 : ::fcntl(to.native_handle(), F_DUPFD_CLOEXEC, 0)};
  if (!ours) {
    co_return false;
  }
  set_cork(ours.get(), 1);
  auto work = std::make_shared<transfer>(images_, ours.get(), parts);
  const std::function<transfer::state()> turn = [work] {
    return work->run();
  };
  auto state = transfer::state::more;
  while (state == transfer::state::more || state == transfer::state::blocked) {
    state = co_await elsewhere(threads_, turn);
    if (!to.is_open()) {
      co_return false;
    }
    if (state == transfer::state::blocked) {
      const auto deadline = pace_of_client.deadline(pace::clock::now());
      bool is_ready = co_await wait_until_writable(to, deadline);
      pace_of_client.moved(pace::clock::now(), work->take_sent());
      if (!is_ready) {
        co_return false;
      }
    }
  }
  set_cork(ours.get(), 0);
  co_return state == transfer::state::done;
}

asio::awaitable<answer<std::string>> file_sender::read(const std::vector<body_part>& parts) {
  const std::function<answer<std::string>()> work = [this, &parts] {
    return read_parts(images_, parts);
  };
  co_return co_await elsewhere(threads_, work);
}

asio::awaitable<answer<std::string>> parts_source::next() {
  if (waiting_.empty()) {
    auto more = co_await next_parts();
    if (more.has_error()) {
      co_return more.error();
    }
    std::move(more->begin(), more->end(), std::back_inserter(waiting_));
  }
  std::vector<body_part> taken;
  std::uint64_t bytes = 0;
  while (!waiting_.empty() && bytes < read_bytes_max) {
    taken.push_back(take_front(waiting_.front(), read_bytes_max - bytes));
    bytes += taken.back().bytes.size() + taken.back().range.bytes;
    if (waiting_.front().bytes.empty() && waiting_.front().range.bytes == 0) {
      waiting_.pop_front();
    }
  }
  co_return co_await sender_.read(taken);
}

asio::awaitable<answer<body_piece>> parts_source::next_piece() {
  auto more = co_await next_parts();
  if (more.has_error()) {
    co_return more.error();
  }
  body_piece out;
  out.parts = std::move(*more);
  out.sender = &sender_;
  co_return out;
}

} // namespace coppice::gateway
