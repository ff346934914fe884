#include "vmm/agent/streams.hpp"

#include "protocol/limits.hpp"

#include <algorithm>

#include <sys/ioctl.h>

namespace coppice::agent {
namespace {

bool is_plain_byte(unsigned char c) {
  return (c >= 32 && c <= 126) || c == '\t' || c == '\n' || c == '\r';
}

} // namespace

void output_stream::pump(bool is_last, const sink& to) {
  unsigned char buffer[limits::output_chunk_bytes];
  auto wanted = std::min<std::uint64_t>(sizeof(buffer), left_bytes_.value_or(sizeof(buffer)));
  auto n = ::read(fd_.get(), buffer, static_cast<std::size_t>(wanted));
  if (n < 0 && errno == EINTR) {
    return;
  }
  if (n < 0 && errno == EAGAIN && !is_last) {
    left_bytes_ = left_bytes_ ? std::optional<std::uint64_t>{0} : std::nullopt; // others read it
    return;
  }
  if (n <= 0) {
    fd_.reset();
    return;
  }
  if (left_bytes_) {
    *left_bytes_ -= static_cast<std::uint64_t>(n);
  }
  keep({buffer, static_cast<std::size_t>(n)}, to);
}

void output_stream::end_with_what_is_there() {
  int bytes = 0;
  if (fd_ && ::ioctl(fd_.get(), FIONREAD, &bytes) < 0) {
    bytes = 0;
  }
  left_bytes_ = static_cast<std::uint64_t>(std::max(bytes, 0));
}

void output_stream::add(std::string_view words, const sink& to) {
  keep({reinterpret_cast<const unsigned char*>(words.data()), words.size()}, to);
}

void output_stream::keep(std::span<const unsigned char> data, const sink& to) {
  total_bytes_ += data.size();
  auto kept = data.first(static_cast<std::size_t>(
      std::min<std::uint64_t>(data.size(), kept_bytes_max_ - kept_bytes_)));
  if (!kept.empty()) {
    kept_bytes_ += kept.size();
    is_plain_ = is_plain_ && std::all_of(kept.begin(), kept.end(), is_plain_byte);
    to(kept);
  }
}

void input_stream::attach(descriptor fd) {
  fd_ = std::move(fd);
  write_some();
}

bool input_stream::feed(std::string_view data, bool close) {
  if (is_closing_ || is_abandoned_) {
    return true;
  }
  auto taken = std::min(data.size(), limits::stdin_bytes_max - held_bytes());
  // Forgets what is written once it is the larger part: each byte moves a few times at most.
  if (written_ > held_.size() / 2) {
    held_.erase(0, written_);
    written_ = 0;
  }
  held_.append(data.substr(0, taken));
  is_closing_ = close || taken < data.size();
  write_some();
  return taken == data.size();
}

void input_stream::write_some() {
  while (fd_ && held_bytes() > 0) {
    auto n = ::write(fd_.get(), held_.data() + written_, held_bytes());
    if (n < 0 && errno == EAGAIN) {
      return;
    }
    if (n < 0 && errno != EINTR) {
      abandon();
      return;
    }
    written_ += static_cast<std::size_t>(std::max<ssize_t>(n, 0));
    taken_bytes_ += static_cast<std::uint64_t>(std::max<ssize_t>(n, 0));
  }
  if (fd_) {
    held_.clear();
    written_ = 0;
    if (is_closing_) {
      fd_.reset();
    }
  }
}

void input_stream::abandon() {
  fd_.reset();
  held_.clear();
  held_.shrink_to_fit();
  written_ = 0;
  is_abandoned_ = true;
}

} // namespace coppice::agent
