#pragma once

#include "protocol/frame.hpp"
#include "protocol/guest.capnp.h"
#include "protocol/result.hpp"
#include "vmm/error.hpp"
#include "vmm/unique_fd.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace coppice::vmm {

/// The host's end of the port that the agent talks on: frames both ways over one stream socket.
///
/// Guarantee: only checked messages are delivered, in order; after the first bad one nothing more
/// is read. What waits in either direction is bounded: sending answers `busy`, and reading pauses
/// while the owner has more than `unread_bytes_max` in hand, so that a flood stays in the guest.
/// Owner: one machine. `send` and `consumed` from any thread, the rest on the event loop's.
class guest_channel : public std::enable_shared_from_this<guest_channel> {
public:
  /// Called on the loop's thread; they may close the channel. They must not own it.
  struct handlers {
    std::function<void(frame<proto::FromGuest>)> on_message;
    std::function<void(std::string)> on_refused; ///< the guest broke the protocol: how
    std::function<void()> on_closed;             ///< the other end is gone
    std::function<void()> on_writable;           ///< after busy: the queue is half empty again
  };

  struct bounds {
    std::size_t queue_bytes_max;
    std::size_t unread_bytes_max;
  };

  guest_channel(boost::asio::io_context& context, unique_fd socket, bounds limits, handlers on);

  void start();

  /// busy; closed; protocol: larger than a frame may be.
  result<void> send(const frame<proto::ToGuest>& message);

  /// See machine::consumed.
  void consumed(std::size_t bytes);

  /// Delivers what has already come, as far as the bound allows: a guest that has ended says
  /// nothing more, but what it said still counts.
  void drain();

  void close();

private:
  void read();
  std::size_t take_some();
  void deliver();
  void write();
  void check_writable();
  void end(bool refused, std::string why);

  boost::asio::io_context& context_;
  boost::asio::local::stream_protocol::socket socket_;
  const bounds limits_;
  handlers on_;

  std::atomic<bool> closed_{false};
  std::atomic<std::size_t> queued_bytes_{0}; // reserved by `send`, freed when written

  std::atomic<bool> busy_was_said_{false};

  // The loop's thread only:
  std::vector<std::byte> received_; // the head of the stream, less than one frame and one read
  std::vector<std::byte> read_buffer_;
  std::size_t unread_bytes_ = 0;
  bool reading_ = false;
  std::deque<frame<proto::ToGuest>> queue_;
  std::array<std::uint8_t, 4> header_{};
  bool writing_ = false;
};

} // namespace coppice::vmm
