#include "gateway/http/listener.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>

namespace coppice::gateway {
namespace {

/// Clients that wait to be accepted; the kernel cuts it to net.core.somaxconn.
constexpr int backlog = 1024;

failure system_failure(const std::string& what) {
  std::error_code code{errno, std::generic_category()};
  return failure{code, what + ": " + code.message()};
}

failure bad_address(const std::string& address, const std::string& why) {
  return failure{std::make_error_code(std::errc::invalid_argument),
                 "http.listen = " + address + ": " + why};
}

struct host_and_port {
  std::string host;
  std::string port;
};

result<host_and_port> split_address(const std::string& address) {
  auto colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == address.size()) {
    return bad_address(address, "must be HOST:PORT");
  }
  host_and_port out{address.substr(0, colon), address.substr(colon + 1)};
  if (out.host.front() == '[' && out.host.back() == ']') {
    out.host = out.host.substr(1, out.host.size() - 2);
  }
  return out;
}

} // namespace

owned_fd::~owned_fd() {
  if (fd_ >= 0) {
    ::close(fd_);
  }
}

result<owned_fd> listen_tcp(const std::string& address) {
  auto parts = split_address(address);
  if (parts.has_error()) {
    return parts.error();
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (int code = ::getaddrinfo(parts->host.c_str(), parts->port.c_str(), &hints, &found)) {
    return bad_address(address, ::gai_strerror(code));
  }
  std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner{found, &::freeaddrinfo};
  owned_fd fd{::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP)};
  int on = 1;
  if (fd.get() < 0 || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::bind(fd.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      ::listen(fd.get(), backlog) != 0) {
    return system_failure("cannot listen on " + address + " (http.listen)");
  }
  return fd;
}

std::uint16_t port_of(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return 0;
  }
  if (address.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<sockaddr_in6*>(&address)->sin6_port);
  }
  return ntohs(reinterpret_cast<sockaddr_in*>(&address)->sin_port);
}

result<owned_fd> listen_unix(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  auto text = path.string();
  if (text.size() >= sizeof address.sun_path) {
    return failure{std::make_error_code(std::errc::filename_too_long),
                   "cannot listen on " + text + ": a unix socket's path has at most " +
                       std::to_string(sizeof address.sun_path - 1) +
                       " bytes; choose a shorter state_dir"};
  }
  std::memcpy(address.sun_path, text.c_str(), text.size() + 1);
  struct stat status {};
  if (::lstat(text.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) {
    ::unlink(text.c_str()); // the state folder is locked, so nobody listens there any more
  }
  owned_fd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  // The mode of the socket before bind is what the file gets: it is never open to others.
  if (fd.get() < 0 || ::fchmod(fd.get(), 0600) != 0 ||
      ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(text.c_str(), 0600) != 0 || ::listen(fd.get(), backlog) != 0) {
    return system_failure("cannot listen on " + text);
  }
  return fd;
}

int accept_client(int listener) {
  int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd >= 0) {
    int on = 1; // fails on unix sockets, which do not wait for more anyway
    static_cast<void>(::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
  }
  return fd;
}

bool is_operator(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         (peer.uid == 0 || peer.uid == ::geteuid());
}

} // namespace coppice::gateway
