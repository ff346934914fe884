#pragma once

#include "actors/output_meter.hpp"

#include <algorithm>
#include <cstdint>

namespace coppice {

/// The account of what one process was given to read: how much of it is still held, by us or the
/// agent, whether more may come, and how much of it is in the event log.
class process_input {
public:
  /// Of each process's input so much is recorded, its beginning: to see what was said, not to keep
  /// it. Whoever gave it has it.
  static constexpr std::uint64_t recorded_bytes_max = 64u << 10;

  std::uint64_t held_bytes() const {
    return given_bytes_ - taken_bytes_;
  }

  /// The client ended it, or the process reads no more.
  bool is_closed() const {
    return is_closed_;
  }

  void give(std::uint64_t bytes, bool close) {
    given_bytes_ += bytes;
    is_closed_ = is_closed_ || close;
  }

  /// What the guest says; it cannot have taken more than there was, nor give back.
  void taken(std::uint64_t total_bytes, bool close) {
    taken_bytes_ = close ? given_bytes_ : std::clamp(total_bytes, taken_bytes_, given_bytes_);
    is_closed_ = is_closed_ || close;
  }

  /// How many of the bytes that were just given are to be recorded: the first ones.
  std::uint64_t record(std::uint64_t bytes) {
    return recorded_.take(bytes);
  }
  /// Whether it is the first time that not all are.
  bool begins_to_leave_out(std::uint64_t bytes, std::uint64_t recorded_bytes) {
    auto begins = recorded_bytes < bytes && !leaves_out_;
    leaves_out_ = leaves_out_ || recorded_bytes < bytes;
    return begins;
  }

private:
  std::uint64_t given_bytes_ = 0;
  std::uint64_t taken_bytes_ = 0;
  bool is_closed_ = false;
  bool leaves_out_ = false;
  output_meter recorded_{recorded_bytes_max};
};

} // namespace coppice
