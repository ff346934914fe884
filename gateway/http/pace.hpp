#pragma once

#include <chrono>
#include <cstdint>

namespace coppice::gateway {

/// How slowly a client may send a body or take a reply.
///
/// Problem: one byte now and then keeps a connection and its memory for ever. Guarantee: in each
/// `window` of waiting for the client at least `window` times the rate is moved, or the deadline
/// passes. Only time spent waiting for it counts, not what the server takes in between.
/// Owner: the connection; one for each body and each reply. Knows no clock but what it is told.
class pace {
public:
  using clock = std::chrono::steady_clock;

  pace(std::chrono::seconds window, std::uint64_t bytes_per_second)
      : window_{window},
        window_bytes_{static_cast<std::uint64_t>(window.count()) * bytes_per_second}, left_{
                                                                                          window} {}

  /// A wait for the client begins: it must end before this.
  clock::time_point deadline(clock::time_point now) {
    began_ = now;
    return now + left_;
  }

  /// It has ended, and so much was moved.
  void moved(clock::time_point now, std::uint64_t bytes) {
    left_ -= now - began_;
    bytes_ += bytes;
    if (bytes_ >= window_bytes_) {
      bytes_ = 0;
      left_ = window_;
    }
  }

private:
  clock::duration window_;
  std::uint64_t window_bytes_;
  clock::duration left_;
  clock::time_point began_;
  std::uint64_t bytes_ = 0; ///< moved in this window
};

} // namespace coppice::gateway
