#pragma once

#include "protocol/result.hpp"

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>

/// Sockets that clients connect to, made so that no child process inherits them: every descriptor
/// is close-on-exec from its first moment.
namespace coppice::gateway {

/// A descriptor that is closed with its owner.
class owned_fd {
public:
  owned_fd() = default;
  explicit owned_fd(int fd) : fd_{fd} {}
  owned_fd(owned_fd&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
  owned_fd& operator=(owned_fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~owned_fd();

  int get() const {
    return fd_;
  }
  int release() {
    return std::exchange(fd_, -1);
  }

private:
  int fd_ = -1;
};

/// HOST:PORT with a numeric address, a name, or `[v6]:PORT`.
result<owned_fd> listen_tcp(const std::string& address);

/// The port that a TCP socket listens on.
std::uint16_t port_of(int fd);

/// A unix socket with mode 0600; one that is left from before is replaced.
result<owned_fd> listen_unix(const std::filesystem::path& path);

/// The next client, or -1 with errno; close-on-exec and non-blocking.
int accept_client(int listener);

/// Whether the peer of a unix socket is root or the server's own user.
bool is_operator(int fd);

} // namespace coppice::gateway
