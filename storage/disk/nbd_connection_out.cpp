#include "storage/disk/nbd_connection_impl.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace coppice::storage {

using nbd::command;

// -- what goes out

void nbd_connection::impl::answer(call& c, nbd::error what) {
  const auto& r = c.request;
  if (what == nbd::error::none && r.is(command::read)) {
    counts_.read_bytes += r.length;
    auto header_bytes = nbd::read_header_bytes(handshake_.agreed());
    auto* front = c.data.data() - header_bytes;
    c.reply = {front, header_bytes + r.length};
    nbd::encode_read_header(r, handshake_.agreed(), {front, header_bytes});
  } else {
    counts_.errors += what != nbd::error::none ? 1 : 0;
    counts_.written_bytes += what == nbd::error::none && r.is(command::write) ? r.length : 0;
    give_back_payload(c);
    c.reply = {c.head.data(), nbd::encode_reply(r, what, handshake_.agreed(), c.head)};
  }
  push(c);
}

void nbd_connection::impl::push(call& c) {
  if (is_ended_) {
    release(c);
  } else {
    ready_.push(c);
  }
}

/// One send at a time, of all that is ready: short replies are copied together, a long one goes
/// from where it is.
void nbd_connection::impl::send_ready() {
  if (send_.is_in_air || is_ended_) {
    return;
  }
  if (!handshake_out_.empty()) {
    send_now({handshake_out_.data(), handshake_out_.size()});
    return;
  }
  auto* first = ready_.front();
  if (first == nullptr) {
    return;
  }
  if (first->next == nullptr || first->reply.size() > gathered_reply_bytes_max) {
    sending_ = ready_.pop();
    send_now(sending_->reply);
    return;
  }
  gathered_ = pool_.take(gathered_bytes_max);
  std::size_t bytes = 0;
  for (auto* c = first; c != nullptr && c->reply.size() <= gathered_reply_bytes_max &&
                        bytes + c->reply.size() <= gathered_bytes_max;
       c = ready_.front()) {
    std::memcpy(gathered_.data() + bytes, c->reply.data(), c->reply.size());
    bytes += c->reply.size();
    release(*ready_.pop());
  }
  is_changed_ = true; // there may be room for requests again
  send_now({gathered_.data(), bytes});
}

void nbd_connection::impl::send_now(std::span<const std::byte> data) {
  send_.what = io_request::call::send;
  send_.fd = fd_;
  send_.buffer = const_cast<std::byte*>(data.data()); // the ring only reads it
  send_.length = data.size();
  send_.flags = MSG_WAITALL;
  send_.done = [](io_request& request) {
    auto& self = *static_cast<operation&>(request).owner;
    self.send_.is_in_air = false;
    self.on_sent(request.result);
    self.go_on();
  };
  send_.is_in_air = true;
  ++counts_.sends;
  ring_.submit(send_);
}

void nbd_connection::impl::on_sent(std::int64_t result) {
  auto is_interrupted = result == -EINTR || result == -EAGAIN;
  if (result < 0 && !is_interrupted) {
    end("sending failed: " + std::string{std::strerror(static_cast<int>(-result))});
  }
  auto sent = static_cast<std::size_t>(std::max<std::int64_t>(result, 0));
  if (!is_ended_ && sent < send_.length) {
    send_now({static_cast<const std::byte*>(send_.buffer) + sent, send_.length - sent});
    return;
  }
  handshake_out_.clear();
  pool_.give(std::exchange(gathered_, {}));
  if (auto* c = std::exchange(sending_, nullptr)) {
    release(*c);
  }
}

} // namespace coppice::storage
