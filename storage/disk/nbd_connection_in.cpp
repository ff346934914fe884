#include "storage/disk/nbd_connection_impl.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace coppice::storage {

using nbd::command;

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

} // namespace coppice::storage
