#pragma once

#include "protocol/frame.hpp"
#include "protocol/guest.capnp.h"
#include "vmm/agent/descriptor.hpp"

#include <array>
#include <cstddef>
#include <deque>
#include <functional>
#include <vector>

namespace coppice::agent {

/// The channel to the host: frames both ways over one non-blocking descriptor.
///
/// Problem: the host may be slow to read and the agent must go on watching its process and its
/// deadline. So nothing here blocks: `send` queues what the port does not take at once, and
/// `is_congested` tells the producers of output to pause until the host has caught up. The queue is
/// bounded by that pause: past it come only answers to what the host says (that a process started
/// or could not, that it has read) and the ends of processes, a few for each.
///
/// Owner: the session. Runs on the agent's one thread.
class port {
public:
  explicit port(descriptor fd) : fd_{std::move(fd)} {}

  int fd() const {
    return fd_.get();
  }

  /// Output waits for the host.
  bool has_queued() const {
    return queued_bytes_ != 0;
  }

  bool is_congested() const {
    return queued_bytes_ >= congested_bytes;
  }

  /// Hands each whole message that has arrived to `take`; returns when no more is there or a fair
  /// share was read. A frame that breaks the limits or is no message is a failure: the two ends no
  /// longer agree on where frames begin.
  result<void> receive(const std::function<void(frame<proto::ToGuest>)>& take);

  void send(capnp::MessageBuilder& message);

  /// Writes as much of the queue as the port takes now.
  result<void> flush();

private:
  result<bool> read_some(void* to, std::size_t bytes_max, std::size_t& got);

  static constexpr std::size_t congested_bytes = 256u << 10;
  static constexpr std::size_t receive_share_bytes = 1u << 20;

  descriptor fd_;
  std::array<unsigned char, 4> header_{};
  std::size_t header_bytes_ = 0;
  kj::Array<capnp::word> body_;
  std::size_t body_bytes_ = 0;
  std::deque<std::vector<char>> queue_;
  std::size_t front_sent_ = 0;
  std::size_t queued_bytes_ = 0;
};

} // namespace coppice::agent
