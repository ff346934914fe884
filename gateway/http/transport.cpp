#include "gateway/http/transport.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <openssl/err.h>
#include <openssl/sslerr.h>

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <string>
#include <utility>

namespace coppice::gateway {
namespace {

/// The content of a TLS record.
constexpr std::size_t record_bytes_max = 16u << 10;

/// Plain bytes are moved as often without a wait before others get their turn. A request and its
/// reply are two, with a wait before them.
constexpr unsigned moves_max = 16;

/// Whether the other end has said that it sends no more, or is gone.
bool has_hung_up(int fd) {
  pollfd asked{fd, POLLRDHUP, 0};
  return ::poll(&asked, 1, 0) == 1 && (asked.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

error_code system_error_now() {
  return {errno, boost::system::system_category()};
}

bool would_block() {
  return errno == EAGAIN || errno == EWOULDBLOCK;
}

} // namespace

/// Outlives its transport by the one callback that may be on its way.
struct transport::watcher {
  std::function<void()> gone;
  asio::cancellation_signal stop;
};

class transport::timed_wait {
public:
  timed_wait(transport& owner, clock::time_point deadline) : owner_{owner} {
    owner_.deadline_ = deadline;
  }
  ~timed_wait() {
    owner_.deadline_ = clock::time_point::max();
  }
  timed_wait(const timed_wait&) = delete;
  timed_wait& operator=(const timed_wait&) = delete;

private:
  transport& owner_;
};

transport::transport(stream_socket socket, tls_context tls)
    : socket_{std::move(socket)}, tls_context_{std::move(tls)} {
  error_code ignored;
  socket_.native_non_blocking(true, ignored);
  if (tls_context_) {
    tls_ = std::make_unique<asio::ssl::stream<stream_socket&>>(socket_, *tls_context_);
  }
}

error_code transport::why(error_code error) const {
  return error && is_late_ ? make_error_code(asio::error::timed_out) : error;
}

asio::awaitable<error_code> transport::begin(clock::time_point deadline) {
  error_code error;
  if (tls_) {
    timed_wait waiting{*this, deadline};
    co_await tls_->async_handshake(asio::ssl::stream_base::server,
                                   asio::redirect_error(asio::use_awaitable, error));
  }
  co_return why(error);
}

bool transport::become_plain(const error_code& error) {
  bool is_plain = error.category() == asio::error::get_ssl_category() &&
                  ERR_GET_REASON(static_cast<unsigned long>(error.value())) == SSL_R_HTTP_REQUEST;
  if (is_plain) {
    tls_.reset();
  }
  return is_plain;
}

asio::awaitable<error_code> transport::wait_readable(clock::time_point deadline) {
  error_code error;
  timed_wait waiting{*this, deadline};
  co_await socket_.async_wait(stream_socket::wait_read,
                              asio::redirect_error(asio::use_awaitable, error));
  moves_ = 0;
  co_return why(error);
}

/// What is ready at once never comes back to the loop by itself.
asio::awaitable<void> transport::let_others_run() {
  moves_ = 0;
  co_await asio::post(socket_.get_executor(), asio::use_awaitable);
}

asio::awaitable<transport::moved> transport::receive(asio::mutable_buffer into,
                                                     clock::time_point deadline) {
  return tls_ ? receive_tls(into, deadline) : receive_plain(into, deadline);
}

asio::awaitable<transport::moved> transport::receive_tls(asio::mutable_buffer into,
                                                         clock::time_point deadline) {
  moved out;
  timed_wait waiting{*this, deadline};
  out.bytes =
      co_await tls_->async_read_some(into, asio::redirect_error(asio::use_awaitable, out.error));
  out.error = why(out.error);
  co_return out;
}

asio::awaitable<transport::moved> transport::receive_plain(asio::mutable_buffer into,
                                                           clock::time_point deadline) {
  for (;;) {
    if (++moves_ > moves_max) {
      co_await let_others_run();
    }
    auto count = ::recv(socket_.native_handle(), into.data(), into.size(), 0);
    if (count > 0) {
      co_return moved{{}, static_cast<std::size_t>(count)};
    }
    if (count == 0) {
      co_return moved{asio::error::eof, 0};
    }
    if (!would_block()) {
      co_return moved{system_error_now(), 0};
    }
    auto error = co_await wait_readable(deadline);
    if (error) {
      co_return moved{error, 0};
    }
  }
}

asio::awaitable<transport::moved> transport::send(pieces from, clock::time_point deadline) {
  return tls_ ? send_tls(from, deadline) : send_plain(from, deadline);
}

asio::awaitable<transport::moved> transport::send_tls(pieces from, clock::time_point deadline) {
  // Asio makes a record of each piece; a head and a small body belong together.
  std::string joined;
  if (asio::buffer_size(from) <= record_bytes_max) {
    for (const auto& piece : from) {
      joined.append(static_cast<const char*>(piece.data()), piece.size());
    }
    from = {asio::buffer(joined), {}, {}};
  }
  moved out;
  timed_wait waiting{*this, deadline};
  out.bytes =
      co_await tls_->async_write_some(from, asio::redirect_error(asio::use_awaitable, out.error));
  out.error = why(out.error);
  co_return out;
}

asio::awaitable<transport::moved> transport::send_plain(pieces from, clock::time_point deadline) {
  std::array<iovec, 3> parts{};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    parts[i] = {const_cast<void*>(from[i].data()), from[i].size()};
  }
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  for (;;) {
    if (++moves_ > moves_max) {
      co_await let_others_run();
    }
    auto count = ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL);
    if (count >= 0) {
      co_return moved{{}, static_cast<std::size_t>(count)};
    }
    if (!would_block()) {
      co_return moved{system_error_now(), 0};
    }
    error_code error;
    {
      timed_wait waiting{*this, deadline};
      co_await socket_.async_wait(stream_socket::wait_write,
                                  asio::redirect_error(asio::use_awaitable, error));
      moves_ = 0;
    }
    if (error) {
      co_return moved{why(error), 0};
    }
  }
}

void transport::watch(std::function<void()> gone) {
  unwatch();
  watcher_ = std::make_shared<watcher>();
  watcher_->gone = std::move(gone);
  auto fire = [shared = watcher_, fd = socket_.native_handle()](error_code error) {
    // Something else than the end may have come, the next request or a message of TLS: then only
    // sending shows whether the client is there.
    if (shared->gone && (error || has_hung_up(fd))) {
      std::exchange(shared->gone, nullptr)();
    }
  };
  socket_.async_wait(stream_socket::wait_read,
                     asio::bind_cancellation_slot(watcher_->stop.slot(), std::move(fire)));
}

void transport::unwatch() {
  if (watcher_) {
    auto ended = std::exchange(watcher_, nullptr);
    ended->gone = nullptr;
    ended->stop.emit(asio::cancellation_type::total);
  }
}

asio::awaitable<void> transport::end_sending(clock::time_point deadline) {
  error_code ignored;
  if (tls_) {
    timed_wait waiting{*this, deadline};
    co_await tls_->async_shutdown(asio::redirect_error(asio::use_awaitable, ignored));
  }
  socket_.shutdown(stream_socket::shutdown_send, ignored);
}

void transport::break_on_close() {
  error_code ignored;
  socket_.set_option(asio::socket_base::linger{true, 0}, ignored); // a reset instead of an end
}

void transport::close() {
  error_code ignored;
  socket_.close(ignored);
}

void transport::look_at_clock(clock::time_point now) {
  if (now >= deadline_) {
    deadline_ = clock::time_point::max();
    is_late_ = true;
    error_code ignored;
    socket_.cancel(ignored);
  }
}

} // namespace coppice::gateway
