#pragma once

#include "vmm/unique_fd.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace coppice::vmm {

/// The last bytes of a stream that may never end.
class output_tail {
public:
  explicit output_tail(std::size_t bytes_max) : bytes_max_{bytes_max} {}

  void append(std::string_view bytes);

  void clear() {
    bytes_.clear();
  }

  /// At most `bytes_max`.
  std::string text() const;

private:
  std::size_t bytes_max_;
  std::string bytes_; // up to twice the limit, so that dropping the head is rare
};

/// Makes a guest's or a program's output fit to show: the last `lines_max` non-empty lines with
/// everything but printable ASCII replaced by `?` (terminal escapes lose their effect), each line
/// and the whole bounded.
std::string printable_lines(std::string_view bytes, std::size_t lines_max);

/// Keeps the tail of what comes out of a pipe or socket, for as long as it is open. The writer is
/// never made to wait, a flood costs no memory. All calls on the event loop's thread.
class tail_reader : public std::enable_shared_from_this<tail_reader> {
public:
  tail_reader(boost::asio::io_context& context, unique_fd source, std::size_t bytes_max);

  /// `on_more`: after each piece that came by itself.
  void start(std::function<void()> on_more = {});

  /// Takes what has been written so far; for use after the writer has ended.
  void drain();

  void close();

  std::string text() const {
    return tail_.text();
  }

  /// What came until now is not kept.
  void forget() {
    tail_.clear();
  }

private:
  void read();
  bool take(boost::system::error_code& error);

  boost::asio::posix::stream_descriptor source_;
  output_tail tail_;
  std::function<void()> on_more_;
  std::uint64_t taken_ = 0; // bytes
};

} // namespace coppice::vmm
