#include "vmm/output_tail.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>

#include <algorithm>
#include <array>
#include <deque>
#include <utility>

namespace coppice::vmm {

namespace {

constexpr std::size_t line_bytes_max = 400;
// What a pipe or socket may hold when its writer is gone; a surviving writer cannot keep us longer.
constexpr std::size_t drain_bytes_max = 1u << 20;

bool is_space(char c) {
  return c == ' ' || c == '\t';
}

} // namespace

void output_tail::append(std::string_view bytes) {
  if (bytes.size() >= bytes_max_) {
    bytes_.assign(bytes.substr(bytes.size() - bytes_max_));
    return;
  }
  if (bytes_.size() + bytes.size() > 2 * bytes_max_) {
    bytes_.erase(0, bytes_.size() - bytes_max_);
  }
  bytes_ += bytes;
}

std::string output_tail::text() const {
  return bytes_.size() <= bytes_max_ ? bytes_ : bytes_.substr(bytes_.size() - bytes_max_);
}

std::string printable_lines(std::string_view bytes, std::size_t lines_max) {
  std::deque<std::string> lines;
  std::string line;
  auto finish_line = [&] {
    while (!line.empty() && is_space(line.back())) {
      line.pop_back();
    }
    if (!line.empty()) {
      lines.push_back(std::move(line));
      if (lines.size() > lines_max) {
        lines.pop_front();
      }
    }
    line.clear();
  };
  for (char c : bytes) {
    if (c == '\n' || c == '\r') {
      finish_line();
    } else if (line.size() < line_bytes_max) {
      line += c == '\t' ? ' ' : (c >= 32 && c < 127 ? c : '?');
    }
  }
  finish_line();
  std::string out;
  for (const auto& l : lines) {
    out += out.empty() ? "" : "\n";
    out += l;
  }
  return out;
}

tail_reader::tail_reader(boost::asio::io_context& context, unique_fd source, std::size_t bytes_max)
    : source_{context, source.release()}, tail_{bytes_max} {
  boost::system::error_code ignored;
  source_.non_blocking(true, ignored);
}

void tail_reader::start(std::function<void()> on_more) {
  on_more_ = std::move(on_more);
  read();
}

void tail_reader::read() {
  // Waits and then reads here: bytes that an asynchronous read had already taken, but not yet
  // handed over, would be missed by drain().
  source_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                     [self = shared_from_this()](boost::system::error_code error) {
                       if (error || !self->take(error)) {
                         return;
                       }
                       if (self->on_more_) {
                         self->on_more_();
                       }
                       self->read();
                     });
}

bool tail_reader::take(boost::system::error_code& error) {
  std::array<char, 4096> piece;
  const auto n = source_.read_some(boost::asio::buffer(piece), error);
  tail_.append({piece.data(), n});
  taken_ += n;
  return !error || error == boost::asio::error::would_block;
}

void tail_reader::drain() {
  boost::system::error_code error;
  for (const auto before = taken_; source_.is_open() && taken_ - before < drain_bytes_max;) {
    if (!take(error) || error) {
      return;
    }
  }
}

void tail_reader::close() {
  boost::system::error_code ignored;
  source_.close(ignored);
}

} // namespace coppice::vmm
