#include "gateway/http/server.hpp"

#include "actors/log.hpp"
#include "gateway/http/context.hpp"
#include "gateway/http/listener.hpp"
#include "gateway/http/session.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <set>
#include <thread>

namespace coppice::gateway {
namespace {

/// The operator gets in even when clients hold every other connection.
constexpr std::size_t operator_connections_max = 64;

/// What is under way when the server stops may take this long to be answered.
constexpr std::chrono::seconds stop_grace{2};

/// Between attempts to accept while the process has no descriptor to spare.
constexpr std::chrono::milliseconds accept_pause{100};

constexpr std::string_view full_reply =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    "Connection: close\r\n\r\n"
    R"({"error":"too many connections","status":503})";

/// One listening socket and its clients.
struct door_socket {
  door_socket(asio::io_context& loop, owned_fd fd, bool for_operators, std::size_t clients_limit)
      : listener{loop, fd.release()}, is_for_operators{for_operators}, clients_max{clients_limit} {}

  asio::posix::stream_descriptor listener;
  bool is_for_operators;
  std::size_t clients_max;
  std::size_t clients = 0;
};

} // namespace

struct http_server::impl {
  impl(http_options given, services inside)
      : options{std::move(given)}, shared{std::move(inside)} {}

  result<void> listen();
  void run();
  void stop();

  asio::awaitable<void> accept_all(door_socket& from);
  void admit(door_socket& from, owned_fd fd);
  void begin_stop();
  void end_when_empty();

  http_options options;
  context shared;
  asio::io_context loop{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{loop.get_executor()};
  asio::steady_timer grace{loop};
  std::unique_ptr<door_socket> tcp;
  std::unique_ptr<door_socket> admin;
  std::set<std::shared_ptr<session>> sessions;
  std::uint16_t port = 0;
  std::thread thread;
};

result<void> http_server::impl::listen() {
  if (!options.listen.empty()) {
    auto fd = listen_tcp(options.listen);
    if (fd.has_error()) {
      return fd.error();
    }
    port = port_of(fd->get());
    auto clients_max = shared.inside.config.http.connections_max;
    tcp = std::make_unique<door_socket>(loop, std::move(*fd), false, clients_max);
  }
  if (!options.admin_socket.empty()) {
    auto fd = listen_unix(options.admin_socket);
    if (fd.has_error()) {
      return fd.error();
    }
    admin = std::make_unique<door_socket>(loop, std::move(*fd), true, operator_connections_max);
  }
  return {};
}

void http_server::impl::run() {
  for (auto* from : {tcp.get(), admin.get()}) {
    if (from) {
      asio::co_spawn(loop, accept_all(*from), asio::detached);
    }
  }
  thread = std::thread{[this] {
    loop.run();
  }};
}

asio::awaitable<void> http_server::impl::accept_all(door_socket& from) {
  asio::steady_timer pause{loop};
  for (;;) {
    boost::system::error_code error;
    co_await from.listener.async_wait(asio::posix::stream_descriptor::wait_read,
                                      asio::redirect_error(asio::use_awaitable, error));
    if (error || shared.stopping) {
      co_return;
    }
    owned_fd fd{accept_client(from.listener.native_handle())};
    if (fd.get() >= 0) {
      admit(from, std::move(fd));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      log::warn("cannot accept a connection", "reason", std::strerror(errno));
      pause.expires_after(accept_pause);
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
  }
}

void http_server::impl::admit(door_socket& from, owned_fd fd) {
  if (from.is_for_operators && !is_operator(fd.get())) {
    log::warn("refused a connection to the admin socket from another user");
    return;
  }
  if (from.clients >= from.clients_max) {
    static_cast<void>(
        ::send(fd.get(), full_reply.data(), full_reply.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
    return;
  }
  asio::generic::stream_protocol protocol{from.is_for_operators ? AF_UNIX : AF_INET, 0};
  stream_socket socket{loop};
  boost::system::error_code error;
  socket.assign(protocol, fd.get(), error);
  if (error) {
    return;
  }
  fd.release();
  auto client = std::make_shared<session>(shared, std::move(socket), from.is_for_operators);
  sessions.insert(client);
  ++from.clients;
  asio::co_spawn(loop, client->run(), [this, client, &from](std::exception_ptr defect) {
    if (defect) {
      log::error("a connection ended by a defect");
      client->close();
    }
    sessions.erase(client);
    --from.clients;
    end_when_empty();
  });
}

void http_server::impl::begin_stop() {
  shared.stopping = true;
  for (auto* from : {tcp.get(), admin.get()}) {
    if (from) {
      boost::system::error_code ignored;
      from->listener.close(ignored);
    }
  }
  auto all = sessions;
  for (const auto& client : all) {
    client->wind_down();
  }
  grace.expires_after(stop_grace);
  grace.async_wait([this](boost::system::error_code error) {
    if (!error) {
      auto left = sessions;
      for (const auto& client : left) {
        client->close();
      }
    }
  });
  end_when_empty();
}

void http_server::impl::end_when_empty() {
  if (shared.stopping && sessions.empty()) {
    grace.cancel();
    work.reset();
  }
}

void http_server::impl::stop() {
  if (!thread.joinable()) {
    return;
  }
  asio::post(loop, [this] { begin_stop(); });
  // From here on every question to the inside is answered "stopping", so no session waits.
  shared.actors.close();
  thread.join();
  if (admin) {
    ::unlink(options.admin_socket.c_str());
  }
}

result<std::unique_ptr<http_server>> http_server::start(http_options options, services inside) {
  auto state = std::make_unique<impl>(std::move(options), std::move(inside));
  auto listening = state->listen();
  if (listening.has_error()) {
    return listening.error();
  }
  state->run();
  return std::unique_ptr<http_server>{new http_server{std::move(state)}};
}

http_server::http_server(std::unique_ptr<impl> state) : impl_{std::move(state)} {
  // nop
}

http_server::~http_server() {
  stop();
}

std::uint16_t http_server::port() const {
  return impl_->port;
}

void http_server::stop() {
  impl_->stop();
}

} // namespace coppice::gateway
