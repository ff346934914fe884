#pragma once

#include "storage/disk/nbd_connection.hpp"
#include "tests/storage/memory_device.hpp"
#include "tests/storage/nbd_client.hpp"
#include "tests/storage/scratch.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <map>
#include <stdexcept>

namespace coppice::storage::test {

inline constexpr std::uint64_t small_disk_bytes = 64u << 20;

/// The ring of the machine, whose receives and sends move at most `piece_max` bytes at a time.
class piecemeal_ring : public ring {
public:
  explicit piecemeal_ring(bool by_threads = false)
      : real_{by_threads || !uring_obstacle().empty() ? make_thread_ring(2) : make_uring(64)} {}

  void submit(io_request& request) override {
    auto is_socket =
        request.what == io_request::call::receive || request.what == io_request::call::send;
    if (!is_socket || request.length <= piece_max) {
      real_->submit(request);
      return;
    }
    auto* inner = new shortened{request, &request};
    inner->length = piece_max;
    inner->done = [](io_request& r) {
      std::unique_ptr<shortened> self{static_cast<shortened*>(&r)};
      self->original->result = self->result;
      self->original->done(*self->original);
    };
    real_->submit(*inner);
  }
  void submit_linked(io_request& first, io_request& second) override {
    real_->submit_linked(first, second);
  }
  void turn() override {
    real_->turn();
  }
  std::size_t pending() const override {
    return real_->pending();
  }

  std::size_t piece_max = 1u << 30;

private:
  struct shortened : io_request {
    shortened(const io_request& r, io_request* of) : io_request{r}, original{of} {}
    io_request* original;
  };
  std::unique_ptr<ring> real_;
};

/// A client that does as it pleases, with blocking calls; throws where the server does not answer
/// as it must.
class raw_client {
public:
  explicit raw_client(int fd) : fd_{fd} {}
  ~raw_client() {
    close();
  }
  raw_client(const raw_client&) = delete;
  raw_client& operator=(const raw_client&) = delete;

  void close() {
    if (fd_ >= 0) {
      ::close(std::exchange(fd_, -1));
    }
  }

  void send(const bytes& data, std::size_t piece = 1u << 30) {
    for (std::size_t at = 0; at < data.size();) {
      auto n = ::send(fd_, data.data() + at, std::min(piece, data.size() - at), MSG_NOSIGNAL);
      if (n <= 0) {
        throw std::runtime_error{"the server does not take what is sent"};
      }
      at += static_cast<std::size_t>(n);
    }
  }

  bytes receive(std::size_t count) {
    bytes out(count);
    for (std::size_t at = 0; at < count;) {
      auto n = ::recv(fd_, out.data() + at, count - at, 0);
      if (n <= 0) {
        throw std::runtime_error{"the server closed"};
      }
      at += static_cast<std::size_t>(n);
    }
    return out;
  }

  bool is_closed_by_server() {
    std::byte b{};
    return ::recv(fd_, &b, 1, 0) <= 0;
  }

  option_answer receive_answer() {
    auto head = receive(20);
    auto data = receive(load_be<std::uint32_t>(head, 16));
    return answers_in(head + data).at(0);
  }

  /// As QEMU does.
  void shake_hands() {
    receive(n::greeting_bytes);
    send(qemu_handshake());
    for (int i = 0; i < 6; ++i) {
      receive_answer();
    }
  }

  struct reply {
    std::uint64_t cookie = 0;
    std::uint32_t error = 0;
    n::chunk type = n::chunk::none; ///< of a structured one
    std::uint64_t offset = 0;
    bytes data; ///< of a read; the descriptors of a block status
  };

  reply receive_reply() {
    auto head = receive(n::simple_reply_bytes);
    reply out;
    out.cookie = load_be<std::uint64_t>(head, 8);
    if (load_be<std::uint32_t>(head, 0) == n::simple_reply_magic) {
      out.error = load_be<std::uint32_t>(head, 4);
      return out;
    }
    if (load_be<std::uint32_t>(head, 0) != n::structured_reply_magic ||
        load_be<std::uint16_t>(head, 4) != n::reply_flag_done) {
      throw std::runtime_error{"a reply that is none"};
    }
    out.type = static_cast<n::chunk>(load_be<std::uint16_t>(head, 6));
    auto payload = receive(load_be<std::uint32_t>(receive(4), 0));
    if (out.type == n::chunk::error) {
      out.error = load_be<std::uint32_t>(payload, 0);
    } else if (out.type == n::chunk::offset_data) {
      out.offset = load_be<std::uint64_t>(payload, 0);
      out.data.assign(payload.begin() + 8, payload.end());
    } else {
      out.data.assign(payload.begin() + 4, payload.end());
    }
    return out;
  }

  reply ask(const bytes& request) {
    send(request);
    return receive_reply();
  }

private:
  int fd_;
};

/// A server and its one connection on this thread; the client is another thread or program.
struct nbd_server {
  explicit nbd_server(unsigned turns_max = 0, bool by_threads = false)
      : on{by_threads}, device{on, zero_fd, small_disk_bytes, turns_max} {}
  ~nbd_server() {
    if (connection && !is_closed) {
      connection->close();
      turn_until([this] { return is_closed; });
    }
    ::close(zero_fd);
  }

  /// Gives the client's end of a new connection.
  int connect() {
    int ends[2];
    BOOST_REQUIRE_EQUAL(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    take(ends[0]);
    return ends[1];
  }

  void take(int fd) {
    is_closed = false;
    connection =
        std::make_unique<nbd_connection>(on, fd, nbd_connection::settings{small_disk_bytes, "disk"},
                                         &device, [this](const std::string& why) {
                                           BOOST_CHECK(!is_closed);
                                           is_closed = true;
                                           reason = why;
                                         });
  }

  template <class Predicate>
  void turn_until(Predicate&& is_reached) {
    while (!is_reached()) {
      BOOST_REQUIRE_GT(on.pending(), 0u);
      on.turn();
    }
  }

  /// Serves `client` until the connection is closed.
  template <class Client>
  void serve(Client client) {
    auto fd = connect();
    auto ended = std::async(std::launch::async, [fd, &client] {
      raw_client peer{fd};
      client(peer);
    });
    turn_until([this] { return is_closed; });
    BOOST_CHECK_NO_THROW(ended.get());
  }

  /// Serves a program that connects to a socket; gives its output. `{}` in the command is the URL.
  std::string serve_program(std::string command, const std::string& before = {}) {
    auto path = (dir / "nbd.sock").string();
    ::unlink(path.c_str());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    auto listening = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BOOST_REQUIRE_EQUAL(
        ::bind(listening, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    BOOST_REQUIRE_EQUAL(::listen(listening, 1), 0);
    command.replace(command.find("{}"), 2, "'nbd+unix:///disk?socket=" + path + "'");
    auto program = std::async(std::launch::async, [&] { return run(before + command); });
    pollfd ready{listening, POLLIN, 0};
    auto is_here = ::poll(&ready, 1, 20'000) == 1;
    if (is_here) {
      take(::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC));
      turn_until([this] { return is_closed; });
    }
    ::close(listening);
    auto done = program.get();
    BOOST_REQUIRE_MESSAGE(is_here && done.status == 0, command << ": " << done.output);
    return done.output;
  }

  scratch dir;
  int zero_fd = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
  piecemeal_ring on;
  memory_device device;
  std::unique_ptr<nbd_connection> connection;
  bool is_closed = false;
  std::string reason;
};

} // namespace coppice::storage::test
