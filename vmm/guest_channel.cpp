#include "vmm/guest_channel.hpp"

#include "protocol/limits.hpp"
#include "vmm/guest_protocol.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>

#include <algorithm>

namespace coppice::vmm {

namespace {

namespace asio = boost::asio;

constexpr std::size_t read_bytes = 64u << 10;

std::size_t wire_bytes(const frame<proto::ToGuest>& message) {
  return frame_header_bytes + message.bytes().size();
}

} // namespace

guest_channel::guest_channel(asio::io_context& context, unique_fd socket, bounds limits,
                             handlers on)
    : context_{context}, socket_{context, asio::local::stream_protocol{}, socket.release()},
      limits_{limits}, on_{std::move(on)}, read_buffer_(read_bytes) {
  boost::system::error_code ignored;
  socket_.non_blocking(true, ignored);
}

void guest_channel::start() {
  read();
}

void guest_channel::read() {
  if (reading_ || closed_ || unread_bytes_ > limits_.unread_bytes_max) {
    return;
  }
  reading_ = true;
  // Waits and then reads here, so that no bytes are in flight when drain() looks for the last ones.
  socket_.async_wait(asio::local::stream_protocol::socket::wait_read,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       self->reading_ = false;
                       if (error) {
                         self->end(false, {});
                       } else {
                         self->take_some();
                         self->deliver();
                       }
                     });
}

std::size_t guest_channel::take_some() {
  if (closed_) {
    return 0;
  }
  boost::system::error_code error;
  const auto n = socket_.read_some(asio::buffer(read_buffer_), error);
  if (error && error != asio::error::would_block) {
    end(false, {});
    return 0;
  }
  received_.insert(received_.end(), read_buffer_.begin(),
                   read_buffer_.begin() + static_cast<std::ptrdiff_t>(n));
  return n;
}

void guest_channel::drain() {
  while (unread_bytes_ <= limits_.unread_bytes_max && take_some() > 0) {
    deliver();
  }
}

void guest_channel::deliver() {
  std::size_t taken = 0;
  std::string refused;
  while (!closed_ && unread_bytes_ <= limits_.unread_bytes_max) {
    auto next = parse_guest_frame(std::span<const std::byte>{received_}.subspan(taken));
    if (next.status == parse_status::incomplete) {
      break;
    }
    if (next.status == parse_status::refused) {
      refused = std::move(next.reason);
      break;
    }
    taken += next.bytes_taken;
    unread_bytes_ += next.message.bytes().size();
    on_.on_message(std::move(next.message));
  }
  received_.erase(received_.begin(), received_.begin() + static_cast<std::ptrdiff_t>(taken));
  if (!refused.empty()) {
    end(true, std::move(refused));
    return;
  }
  read();
}

result<void> guest_channel::send(const frame<proto::ToGuest>& message) {
  const auto bytes = wire_bytes(message);
  if (message.empty() || message.bytes().size() > limits::channel_frame_bytes_max) {
    return fail(ec::protocol, "message for the guest of " + std::to_string(bytes) +
                                  " bytes: the channel takes 1 to " +
                                  std::to_string(limits::channel_frame_bytes_max));
  }
  if (closed_) {
    return fail(ec::closed, "the guest is gone");
  }
  auto before = queued_bytes_.load();
  do {
    if (before + bytes > limits_.queue_bytes_max) {
      // The queue may have drained since it was looked at: the loop looks once more.
      if (!busy_was_said_.exchange(true)) {
        asio::post(context_, [self = shared_from_this()] { self->check_writable(); });
      }
      return fail(ec::busy, "the guest does not take what waits for it: " + std::to_string(before) +
                                " bytes are queued");
    }
  } while (!queued_bytes_.compare_exchange_weak(before, before + bytes));
  asio::post(context_, [self = shared_from_this(), message] {
    self->queue_.push_back(message);
    self->write();
  });
  return {};
}

void guest_channel::write() {
  if (writing_ || closed_ || queue_.empty()) {
    return;
  }
  writing_ = true;
  const auto bytes = queue_.front().bytes();
  const auto words = static_cast<std::uint32_t>(bytes.size() / sizeof(capnp::word));
  for (std::size_t i = 0; i < header_.size(); ++i) {
    header_[i] = static_cast<std::uint8_t>(words >> (8 * i));
  }
  const std::array<asio::const_buffer, 2> pieces{asio::buffer(header_),
                                                 asio::buffer(bytes.data(), bytes.size())};
  asio::async_write(
      socket_, pieces,
      [self = shared_from_this()](const boost::system::error_code& error, std::size_t) {
        self->writing_ = false;
        if (error || self->closed_) { // closing drops the queue, also under a write just done
          self->end(false, {});
          return;
        }
        self->queued_bytes_ -= wire_bytes(self->queue_.front());
        self->queue_.pop_front();
        self->check_writable();
        self->write();
      });
}

void guest_channel::check_writable() {
  if (!closed_ && queued_bytes_ <= limits_.queue_bytes_max / 2 && busy_was_said_.exchange(false)) {
    on_.on_writable();
  }
}

void guest_channel::consumed(std::size_t bytes) {
  asio::post(context_, [self = shared_from_this(), bytes] {
    self->unread_bytes_ -= std::min(bytes, self->unread_bytes_);
    if (!self->reading_ && !self->closed_) {
      self->deliver(); // what had been received before the pause comes first
    }
  });
}

void guest_channel::end(bool refused, std::string why) {
  if (closed_.exchange(true)) {
    return;
  }
  boost::system::error_code ignored;
  socket_.close(ignored);
  queue_.clear();
  if (refused) {
    on_.on_refused(std::move(why));
  } else {
    on_.on_closed();
  }
}

void guest_channel::close() {
  if (!closed_.exchange(true)) {
    boost::system::error_code ignored;
    socket_.close(ignored);
    queue_.clear();
  }
}

} // namespace coppice::vmm
