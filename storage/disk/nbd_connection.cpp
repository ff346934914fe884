#include "storage/disk/nbd_connection.hpp"

#include "storage/disk/nbd_connection_impl.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
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

// -- what comes in

/// Goes as far as the bytes that are there, and the limits, allow. `wants_bytes_` says which of the
/// two it was.
void nbd_connection::impl::parse() {
  wants_bytes_ = false;
  auto goes_on = true;
  while (goes_on && !is_ended_ && !is_leaving_) {
    if (!handshake_.is_done()) {
      goes_on = parse_handshake();
    } else if (skip_bytes_ > 0) {
      goes_on = skip_payload();
    } else if (filling_ != nullptr) {
      goes_on = fill_payload();
    } else {
      goes_on = parse_request();
    }
  }
}

bool nbd_connection::impl::parse_handshake() {
  if (!handshake_out_.empty()) {
    return false; // one reply at a time
  }
  if (in_begin_ == in_end_) {
    wants_bytes_ = true;
    return false;
  }
  auto taken = handshake_.take(received(), handshake_out_);
  if (taken) {
    in_begin_ += *taken;
  } else if (taken.error().code == make_error_code(nbd::ec::aborted)) {
    leave(taken.error().text);
  } else {
    end(taken.error().text);
  }
  return true;
}

bool nbd_connection::impl::skip_payload() {
  auto part = std::min(received().size(), skip_bytes_);
  in_begin_ += part;
  skip_bytes_ -= part;
  wants_bytes_ = skip_bytes_ > 0;
  return !wants_bytes_;
}

bool nbd_connection::impl::fill_payload() {
  auto& c = *filling_;
  auto part = std::min<std::size_t>(received().size(), c.request.length - filled_bytes_);
  std::memcpy(c.data.data() + filled_bytes_, received().data(), part);
  in_begin_ += part;
  filled_bytes_ += part;
  if (filled_bytes_ < c.request.length) {
    wants_bytes_ = true;
    return false;
  }
  filling_ = nullptr;
  give_to_device(c);
  return true;
}

bool nbd_connection::impl::parse_request() {
  if (received().size() < nbd::request_bytes) {
    wants_bytes_ = true;
    return false;
  }
  auto r = nbd::parse_request(received());
  if (!r) {
    end("a request does not begin with its magic number");
    return false;
  }
  if (nbd::is_hostile(*r)) {
    end("a write of " + std::to_string(r->length) + " bytes");
    return false;
  }
  if (r->is(command::disc)) {
    leave("the client disconnected");
    return false;
  }
  auto objection = nbd::objection_to(*r, disk_bytes_, handshake_.agreed());
  if (objection == nbd::error::none && device_ == nullptr) {
    objection = nbd::error::shutdown;
  }
  auto payload = objection == nbd::error::none ? payload_bytes(*r) : 0;
  if (free_.is_empty() || payload_bytes_ + payload > payload_bytes_max) {
    return false; // goes on when a reply is gone
  }
  in_begin_ += nbd::request_bytes;
  auto& c = take_call(*r, payload);
  if (objection != nbd::error::none) {
    skip_bytes_ = r->payload_bytes();
    answer(c, objection);
  } else if (r->is(command::write)) {
    filling_ = &c;
    filled_bytes_ = 0;
  } else {
    give_to_device(c);
  }
  return true;
}

void nbd_connection::impl::receive_more() {
  if (receive_.is_in_air || is_ended_ || is_leaving_ || !wants_bytes_) {
    return;
  }
  receive_.what = io_request::call::receive;
  receive_.fd = fd_;
  receive_.flags = 0;
  receives_payload_ =
      filling_ != nullptr && filling_->request.length - filled_bytes_ >= direct_bytes_min;
  if (receives_payload_) {
    receive_.buffer = filling_->data.data() + filled_bytes_;
    receive_.length = filling_->request.length - filled_bytes_;
    receive_.flags = MSG_WAITALL;
  } else {
    auto rest = received(); // less than one request
    std::memmove(in_.data(), rest.data(), rest.size());
    in_begin_ = 0;
    in_end_ = rest.size();
    receive_.buffer = in_.data() + in_end_;
    receive_.length = receive_bytes - in_end_;
  }
  receive_.done = [](io_request& request) {
    auto& self = *static_cast<operation&>(request).owner;
    self.receive_.is_in_air = false;
    self.on_received(request.result);
    self.go_on();
  };
  receive_.is_in_air = true;
  ++counts_.receives;
  ring_.submit(receive_);
}

void nbd_connection::impl::on_received(std::int64_t result) {
  if (result == -EINTR || result == -EAGAIN) {
    return; // parse() finds that it wants bytes
  }
  if (result < 0) {
    end("receiving failed: " + std::string{std::strerror(static_cast<int>(-result))});
  } else if (result == 0) {
    end("the peer closed the connection");
  } else if (receives_payload_) {
    filled_bytes_ += static_cast<std::size_t>(result);
  } else {
    in_end_ += static_cast<std::size_t>(result);
  }
}

// -- what the device does

void nbd_connection::impl::give_to_device(call& c) {
  const auto& r = c.request;
  if (r.is(command::flush)) {
    answer(c, nbd::error::none);
    return;
  }
  if (device_ == nullptr) { // exchanged while the payload came in
    answer(c, nbd::error::shutdown);
    return;
  }
  if (r.is(command::block_status)) {
    answer_status(c);
    return;
  }
  auto ended = [this, &c](int error_number) {
    --in_device_;
    answer(c, nbd::error_of(error_number));
    go_on();
  };
  ++in_device_;
  if (r.is(command::read)) {
    c.data = pool_.take(r.length);
    start(device_->read(r.offset, {c.data.data(), r.length}), ended);
  } else if (r.is(command::write)) {
    start(device_->write(r.offset, {c.data.data(), r.length}), ended);
  } else {
    // Zeros are a hole whatever NO_HOLE says: nothing of these disks is ever provisioned, and their
    // limit is kept elsewhere. That is always faster than writing (FAST_ZERO).
    start(device_->zero(r.offset, r.length), ended);
  }
}

void nbd_connection::impl::answer_status(call& c) {
  const auto& r = c.request;
  auto runs_max = (r.flags & nbd::flag_req_one) != 0 ? 1 : nbd::status_runs_max;
  auto runs = device_->status(r.offset, r.length, runs_max);
  if (runs.empty()) { // "a server MAY always safely report a status of 0"
    runs.push_back({r.length, false});
  }
  runs.resize(std::min(runs.size(), runs_max));
  c.data = pool_.take(nbd::status_reply_bytes(runs.size()));
  std::span<std::byte> out{c.data.data(), nbd::status_reply_bytes(runs.size())};
  nbd::encode_status_header(r, runs.size(), out);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    auto length =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(runs[i].length_bytes, r.length));
    nbd::encode_status_run(i, length, runs[i].is_zeros ? nbd::state_hole | nbd::state_zero : 0,
                           out);
  }
  c.reply = out;
  push(c);
}

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
