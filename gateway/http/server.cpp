#include "gateway/http/server.hpp"

#include "actors/log.hpp"
#include "gateway/http/context.hpp"
#include "gateway/http/listener.hpp"
#include "gateway/http/request_id.hpp"
#include "gateway/http/session.hpp"
#include "gateway/http/status.hpp"

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

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <future>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>

namespace coppice::gateway {
namespace {

/// The operator gets in even when clients hold every other connection.
constexpr std::size_t operator_connections_max = 64;

/// What is under way when the server stops may take this long to be answered.
constexpr std::chrono::seconds stop_grace{2};

/// Between attempts to accept while the process has no descriptor to spare.
constexpr std::chrono::milliseconds accept_pause{100};

/// Deadlines of connections are whole seconds: to be late by so much harms nobody.
constexpr std::chrono::milliseconds clock_interval{250};

/// Accepted in one go before others get their turn.
constexpr int accepts_max = 64;

/// Told to who gets no connection, before it has asked for anything.
std::string full_reply(const refusal& why, const std::string& request_id) {
  reply out{why};
  std::string text = "HTTP/1.1 " + std::to_string(out.status) + " ";
  text += reason_phrase(out.status);
  text += "\r\nContent-Type: application/json\r\nContent-Length: ";
  text += std::to_string(out.body.size());
  text += "\r\nX-Request-Id: " + request_id + "\r\n";
  for (const auto& [name, value] : out.headers) {
    text += name + ": " + value + "\r\n";
  }
  return text + "Connection: close\r\n\r\n" + out.body;
}

ip_address peer_address(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  auto* where = reinterpret_cast<sockaddr*>(&address);
  return ::getpeername(fd, where, &size) == 0 ? address_of(*where) : ip_address{};
}

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
  result<tls_context> read_tls() const;
  void run();
  std::size_t drain(std::chrono::milliseconds limit);
  void stop();

  asio::awaitable<void> accept_all(door_socket& from);
  void admit(door_socket& from, owned_fd fd);
  std::optional<refusal> why_full(const door_socket& from, const ip_address& address) const;
  void forget(const std::shared_ptr<session>& client, door_socket& from);
  void look_at_clock();
  void close_listener(door_socket* from);
  void begin_drain();
  void begin_stop();
  void end_when_empty();

  http_options options;
  context shared;
  asio::io_context loop{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{loop.get_executor()};
  asio::steady_timer grace{loop};
  asio::steady_timer clock{loop};
  bool is_looking = false; ///< at the clock; not while nobody is there
  std::unique_ptr<door_socket> tcp;
  std::unique_ptr<door_socket> admin;
  std::set<std::shared_ptr<session>> sessions;
  std::map<ip_address, std::size_t> clients; ///< connections of each
  std::uint16_t port = 0;
  std::thread thread;

  // -- while draining ----------------------------------------------------------------------------
  std::set<std::shared_ptr<session>> busy; ///< of those that were there when it began
  std::promise<void> drained;
  std::atomic<std::size_t> busy_count = 0;
  bool is_stopping = false;
};

result<void> http_server::impl::listen() {
  auto tls = read_tls();
  if (tls.has_error()) {
    return tls.error();
  }
  shared.tls = std::move(*tls);
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
    if (error || !from.listener.is_open()) {
      co_return;
    }
    int code = 0;
    for (int i = 0; i < accepts_max && code == 0; ++i) {
      owned_fd fd{accept_client(from.listener.native_handle())};
      code = fd.get() < 0 ? errno : 0;
      if (code == 0) {
        admit(from, std::move(fd));
      }
    }
    if (code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM) {
      log::warn("cannot accept a connection", "reason", std::strerror(code));
      pause.expires_after(accept_pause);
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
  }
}

std::optional<refusal> http_server::impl::why_full(const door_socket& from,
                                                   const ip_address& address) const {
  if (from.clients >= from.clients_max) {
    return refusal{503, "too many connections"};
  }
  auto address_max = shared.inside.config.http.connections_address_max;
  auto own = clients.find(client_of(address));
  if (!from.is_for_operators && address_max > 0 && own != clients.end() &&
      own->second >= address_max && !shared.trusted_proxies.has(address)) {
    return refusal{429, "too many connections from " + address.to_string() +
                            " (http.connections_address_max); use one for many requests"};
  }
  return std::nullopt;
}

void http_server::impl::admit(door_socket& from, owned_fd fd) {
  if (from.is_for_operators && !is_operator(fd.get())) {
    log::warn("refused a connection to the admin socket from another user");
    return;
  }
  const peer who{peer_address(fd.get()), from.is_for_operators};
  if (auto full = why_full(from, who.address)) {
    auto id = make_request_id(++shared.requests);
    log::info("refused a connection", "request", id, "client", who.address.to_string(), "status",
              full->status);
    if (!shared.tls || from.is_for_operators) {
      auto text = full_reply(*full, id);
      static_cast<void>(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
    }
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
  auto client = std::make_shared<session>(shared, std::move(socket), who);
  sessions.insert(client);
  ++from.clients;
  ++clients[client_of(who.address)];
  if (!std::exchange(is_looking, true)) {
    look_at_clock();
  }
  asio::co_spawn(loop, client->run(), [this, client, &from](std::exception_ptr defect) {
    if (defect) {
      log::error("a connection ended by a defect");
      client->close();
    }
    forget(client, from);
  });
}

void http_server::impl::forget(const std::shared_ptr<session>& client, door_socket& from) {
  sessions.erase(client);
  --from.clients;
  auto own = clients.find(client_of(client->from().address));
  if (own != clients.end() && --own->second == 0) {
    clients.erase(own);
  }
  if (busy.erase(client) > 0) {
    busy_count = busy.size();
    if (busy.empty()) {
      drained.set_value();
    }
  }
  end_when_empty();
}

void http_server::impl::look_at_clock() {
  if (sessions.empty()) {
    is_looking = false;
    return;
  }
  auto now = transport::clock::now();
  for (const auto& client : sessions) {
    client->look_at_clock(now);
  }
  clock.expires_after(clock_interval);
  clock.async_wait([this](boost::system::error_code error) {
    if (!error) {
      look_at_clock();
    }
  });
}

void http_server::impl::close_listener(door_socket* from) {
  if (from) {
    boost::system::error_code ignored;
    from->listener.close(ignored);
  }
}

void http_server::impl::begin_drain() {
  shared.stopping = true;
  close_listener(tcp.get());
  busy = sessions;
  busy_count = busy.size();
  if (busy.empty()) {
    drained.set_value();
  }
  auto all = sessions;
  for (const auto& client : all) {
    client->wind_down();
  }
}

std::size_t http_server::impl::drain(std::chrono::milliseconds limit) {
  if (!thread.joinable()) {
    return 0;
  }
  auto is_over = drained.get_future();
  asio::post(loop, [this] { begin_drain(); });
  is_over.wait_for(limit);
  return busy_count;
}

void http_server::impl::begin_stop() {
  shared.stopping = true;
  is_stopping = true;
  close_listener(tcp.get());
  close_listener(admin.get());
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
  if (is_stopping && sessions.empty()) {
    grace.cancel();
    clock.cancel();
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

result<tls_context> http_server::impl::read_tls() const {
  const auto& http = shared.inside.config.http;
  if (http.tls_certificate.empty() && http.tls_key.empty()) {
    return tls_context{};
  }
  if (http.tls_certificate.empty() || http.tls_key.empty()) {
    return failure{std::make_error_code(std::errc::invalid_argument),
                   "http.tls_certificate and http.tls_key belong together: set both, or neither "
                   "for plain HTTP"};
  }
  return load_tls(http.tls_certificate, http.tls_key);
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

result<void> http_server::reload_tls() {
  auto tls = impl_->read_tls();
  if (tls.has_error()) {
    return tls.error();
  }
  asio::post(impl_->loop, [state = impl_.get(), fresh = std::move(*tls)]() mutable {
    state->shared.tls = std::move(fresh);
  });
  return {};
}

std::size_t http_server::drain(std::chrono::milliseconds limit) {
  return impl_->drain(limit);
}

void http_server::stop() {
  impl_->stop();
}

} // namespace coppice::gateway
