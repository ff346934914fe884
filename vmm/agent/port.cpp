#include "vmm/agent/port.hpp"

#include "protocol/limits.hpp"

#include <kj/exception.h>

namespace coppice::agent {

result<bool> port::read_some(void* to, std::size_t bytes_max, std::size_t& got) {
  auto n = ::read(fd_.get(), to, bytes_max);
  if (n < 0) {
    if (errno == EAGAIN || errno == EINTR) {
      return false;
    }
    return last_error("reading from the host");
  }
  got += static_cast<std::size_t>(n);
  return n > 0;
}

result<void> port::receive(const std::function<void(frame<proto::ToGuest>)>& take) {
  std::size_t share = 0;
  while (share < receive_share_bytes) {
    if (header_bytes_ < header_.size()) {
      auto more = read_some(&header_[header_bytes_], header_.size() - header_bytes_, header_bytes_);
      if (!more || !*more) {
        return more ? result<void>{} : result<void>{more.error()};
      }
      if (header_bytes_ < header_.size()) {
        continue;
      }
      auto words = std::size_t{header_[0]} | std::size_t{header_[1]} << 8 |
                   std::size_t{header_[2]} << 16 | std::size_t{header_[3]} << 24;
      if (words == 0 || words > limits::channel_frame_bytes_max / sizeof(capnp::word)) {
        return errno_failure(EPROTO, "a frame of " + std::to_string(words) + " words");
      }
      body_ = kj::heapArray<capnp::word>(words);
      body_bytes_ = 0;
    }
    auto bytes = body_.asBytes();
    auto before = body_bytes_;
    auto more = read_some(bytes.begin() + body_bytes_, bytes.size() - body_bytes_, body_bytes_);
    if (!more || !*more) {
      return more ? result<void>{} : result<void>{more.error()};
    }
    share += body_bytes_ - before;
    if (body_bytes_ == bytes.size()) {
      header_bytes_ = 0;
      try {
        take(frame<proto::ToGuest>{kj::mv(body_)});
      } catch (const kj::Exception& e) {
        return errno_failure(EPROTO,
                             std::string{"a malformed message: "} + e.getDescription().cStr());
      }
    }
  }
  return {};
}

void port::send(capnp::MessageBuilder& message) {
  auto words = capnp::messageToFlatArray(message);
  auto bytes = words.asBytes();
  auto count = static_cast<std::uint32_t>(words.size());
  std::vector<char> out(4 + bytes.size());
  for (unsigned i = 0; i < 4; ++i) {
    out[i] = static_cast<char>(count >> (8 * i) & 0xff);
  }
  std::memcpy(out.data() + 4, bytes.begin(), bytes.size());
  queued_bytes_ += out.size();
  queue_.push_back(std::move(out));
  // A failed write shows again, and is dealt with, when the loop flushes.
  static_cast<void>(flush());
}

result<void> port::flush() {
  while (!queue_.empty()) {
    auto& front = queue_.front();
    auto n = ::write(fd_.get(), front.data() + front_sent_, front.size() - front_sent_);
    if (n < 0) {
      if (errno == EAGAIN || errno == EINTR) {
        return {};
      }
      return last_error("writing to the host");
    }
    if (n == 0) {
      return {};
    }
    front_sent_ += static_cast<std::size_t>(n);
    queued_bytes_ -= static_cast<std::size_t>(n);
    if (front_sent_ == front.size()) {
      queue_.pop_front();
      front_sent_ = 0;
    }
  }
  return {};
}

} // namespace coppice::agent
