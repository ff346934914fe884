#include "storage/disk/nbd_connection.hpp"

#include "storage/disk/nbd_connection_impl.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <utility>

namespace coppice::storage {

using nbd::command;

nbd_connection::nbd_connection(ring& on, int fd, settings chosen, block_device* device,
                               std::function<void(const std::string& reason)> on_closed)
    : impl_{std::make_shared<impl>(on, fd, std::move(chosen), device, std::move(on_closed))} {
  impl_->begin();
}

nbd_connection::~nbd_connection() {
  assert(impl_->is_over());
}

void nbd_connection::point_to(block_device* device) {
  impl_->device_ = device;
}

void nbd_connection::drained(std::function<void()> then) {
  impl_->drained_ = std::move(then);
  impl_->go_on();
}

void nbd_connection::close() {
  impl_->end("closed by the server");
  impl_->go_on();
}

const nbd_connection::counters& nbd_connection::counts() const {
  return impl_->counts_;
}

nbd_connection::impl::impl(ring& on, int fd, settings chosen, block_device* device,
                           std::function<void(const std::string&)> on_closed)
    : ring_{on}, fd_{fd}, disk_bytes_{chosen.disk_bytes}, device_{device},
      on_closed_{std::move(on_closed)}, handshake_{chosen.disk_bytes, chosen.export_name},
      calls_(requests_max), pool_{pool_bytes_kept_max}, in_{pool_.take(receive_bytes)} {
  receive_.owner = this;
  send_.owner = this;
  for (auto& c : calls_) {
    free_.push(c);
  }
}

nbd_connection::impl::~impl() {
  if (fd_ >= 0) {
    ::close(fd_);
  }
}

void nbd_connection::impl::begin() {
  // A reply of the usual size goes into the socket as a whole while the client reads the last one;
  // where the system allows less it takes some turns more.
  int bytes = socket_bytes;
  static_cast<void>(::setsockopt(fd_, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes));
  self_ = shared_from_this();
  auto hello = nbd::greeting();
  handshake_out_.assign(hello.begin(), hello.end());
  go_on();
}

/// Does whatever can be done; called after every change. What is called from inside may lead back
/// here and is then done by the outer one.
void nbd_connection::impl::go_on() {
  if (is_busy_) {
    is_changed_ = true;
    return;
  }
  is_busy_ = true;
  do {
    is_changed_ = false;
    parse();
    send_ready();
    receive_more();
    if (in_device_ == 0 && drained_) {
      if (device_ == nullptr) {
        pool_.trim();
      }
      auto then = std::exchange(drained_, nullptr);
      then();
      is_changed_ = true;
    }
    if (is_leaving_ && calls_in_use_ == 0 && !send_.is_in_air && handshake_out_.empty()) {
      end(leaving_reason_);
    }
  } while (is_changed_);
  is_busy_ = false;
  if (is_over() && self_) {
    auto keep = std::move(self_);
    ::close(std::exchange(fd_, -1));
    auto told = std::exchange(on_closed_, nullptr);
    told(reason_);
  }
}

bool nbd_connection::impl::is_over() const {
  return is_ended_ && !receive_.is_in_air && !send_.is_in_air && in_device_ == 0;
}

void nbd_connection::impl::end(std::string reason) {
  if (is_ended_) {
    return;
  }
  is_ended_ = true;
  reason_ = std::move(reason);
  ::shutdown(fd_, SHUT_RDWR); // what is in the air at the socket ends
  while (auto* c = ready_.pop()) {
    release(*c);
  }
}

void nbd_connection::impl::leave(std::string reason) {
  is_leaving_ = true;
  leaving_reason_ = std::move(reason);
}

// -- calls

std::size_t nbd_connection::impl::payload_bytes(const nbd::request& r) {
  auto carries = r.is(command::read) || r.is(command::write);
  auto describes = r.is(command::block_status);
  return carries ? r.length : describes ? nbd::status_reply_bytes(nbd::status_runs_max) : 0;
}

nbd_connection::impl::call& nbd_connection::impl::take_call(const nbd::request& r,
                                                            std::size_t payload) {
  auto& c = *free_.pop();
  c.request = r;
  c.payload_bytes = payload;
  if (r.is(command::write) && payload > 0) {
    c.data = pool_.take(payload);
  }
  payload_bytes_ += payload;
  ++calls_in_use_;
  ++counts_.requests;
  counts_.requests_peak = std::max(counts_.requests_peak, calls_in_use_);
  counts_.payload_bytes_peak = std::max(counts_.payload_bytes_peak, payload_bytes_);
  return c;
}

void nbd_connection::impl::give_back_payload(call& c) {
  pool_.give(std::exchange(c.data, {}));
  payload_bytes_ -= std::exchange(c.payload_bytes, 0);
}

void nbd_connection::impl::release(call& c) {
  give_back_payload(c);
  --calls_in_use_;
  free_.push_front(c);
}

} // namespace coppice::storage
