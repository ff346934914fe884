#pragma once

#include "protocol/result.hpp"

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include <unistd.h>

/// The small ground that every part of the agent stands on: owned descriptors and errno as a value.
namespace coppice::agent {

/// Owns one file descriptor.
class descriptor {
public:
  descriptor() = default;
  explicit descriptor(int fd) : fd_{fd} {}
  descriptor(descriptor&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
  descriptor& operator=(descriptor&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~descriptor() {
    reset();
  }

  void reset() {
    if (fd_ >= 0) {
      ::close(std::exchange(fd_, -1));
    }
  }

  int get() const {
    return fd_;
  }

  explicit operator bool() const {
    return fd_ >= 0;
  }

private:
  int fd_ = -1;
};

/// A failure from an errno value; the text reads "<what>: <the system's words>".
inline failure errno_failure(int number, const std::string& what) {
  return {std::error_code{number, std::generic_category()}, what + ": " + std::strerror(number)};
}

inline failure last_error(const std::string& what) {
  return errno_failure(errno, what);
}

} // namespace coppice::agent
