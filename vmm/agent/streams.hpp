#pragma once

#include "vmm/agent/descriptor.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace coppice::agent {

/// One output stream of a process: read as long as it gives something, kept up to a limit.
///
/// The pipe is drained past the limit too, so that a process which floods never waits for us; what
/// is over the limit is counted.
class output_stream {
public:
  using sink = std::function<void(std::span<const unsigned char>)>;

  output_stream() = default;
  output_stream(descriptor fd, std::uint64_t kept_bytes_max)
      : fd_{std::move(fd)}, kept_bytes_max_{kept_bytes_max} {}

  int fd() const {
    return fd_.get();
  }

  bool is_open() const {
    return static_cast<bool>(fd_);
  }

  /// Reads once, at most one output message's worth; hands what is kept to `to`. Closes at the
  /// stream's end, and with `is_last` also when nothing is in the pipe right now.
  void pump(bool is_last, const sink& to);

  /// Its process has ended: what is in the pipe now still belongs to it, what others who hold the
  /// pipe write later does not.
  void end_with_what_is_there();

  /// Nobody holds the pipe any more: all that is in it belongs to the stream.
  void end_with_the_pipe() {
    left_bytes_.reset();
  }

  /// Nothing more belongs to the stream: it is closed, or what was there at the end was read.
  bool is_done() const {
    return !fd_ || left_bytes_ == std::uint64_t{0};
  }

  /// Nothing that comes from now on is kept.
  void keep_no_more() {
    kept_bytes_max_ = kept_bytes_;
    left_bytes_.reset();
  }

  /// Words that are not from the pipe but belong to the stream.
  void add(std::string_view words, const sink& to);

  std::uint64_t kept_bytes() const {
    return kept_bytes_;
  }
  std::uint64_t total_bytes() const {
    return total_bytes_;
  }
  /// Every kept byte is 32..126, tab, newline or carriage return.
  bool is_plain() const {
    return is_plain_;
  }

private:
  void keep(std::span<const unsigned char> data, const sink& to);

  descriptor fd_;
  std::uint64_t kept_bytes_max_ = 0;
  std::uint64_t kept_bytes_ = 0;
  std::uint64_t total_bytes_ = 0;
  std::optional<std::uint64_t> left_bytes_; ///< set: so many more belong to the stream
  bool is_plain_ = true;
};

/// Standard input on its way to a process that reads when it likes.
class input_stream {
public:
  /// Before the process is there everything is held.
  void attach(descriptor fd);

  /// Takes data, then, if `close`, the end of input. False: it is more than may be held; what is
  /// held is still delivered, the rest is lost and the input ends there.
  bool feed(std::string_view data, bool close);

  /// Writes what the pipe takes now; gives up when the process has closed its end.
  void write_some();

  /// -1 unless something waits for the pipe.
  int waiting_fd() const {
    return held_bytes() > 0 ? fd_.get() : -1;
  }

  std::size_t held_bytes() const {
    return held_.size() - written_;
  }

  /// What the pipe has taken so far.
  std::uint64_t taken_bytes() const {
    return taken_bytes_;
  }

  /// Nobody reads any more; what is fed is thrown away.
  bool is_abandoned() const {
    return is_abandoned_;
  }

  /// The process has gone.
  void abandon();

private:
  descriptor fd_;
  std::string held_;
  std::size_t written_ = 0;
  std::uint64_t taken_bytes_ = 0;
  bool is_closing_ = false;
  bool is_abandoned_ = false;
};

} // namespace coppice::agent
