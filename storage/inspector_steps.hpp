#pragma once

#include "protocol/frame.hpp"
#include "protocol/inspect.capnp.h"
#include "protocol/result.hpp"
#include "storage/inspector.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace coppice::storage::inspection {

/// What one answer's findings may take, beside their last one.
inline constexpr std::size_t answer_bytes_max = 512u << 10;

/// What is found by many small steps of work.
///
/// Problem: a hostile image can make a search or a comparison as long as it likes, and with nothing
/// to tell. Guarantee: an answer comes after two seconds and a step at most, if only to say that
/// the work goes on; all the steps together take no longer than the deadline and a step: what was
/// found by then is told, and that it is not all.
class stepped_source : public answer_source {
public:
  result<frame<proto::InspectAnswer>> next(std::uint64_t content_bytes_max) final;

protected:
  using clock = std::chrono::steady_clock;

  /// Whoever waits hears something after so much work.
  static constexpr std::chrono::seconds answer_time_max{2};

  /// `deadline`: of work; zero: none.
  explicit stepped_source(clock::duration deadline) : deadline_{deadline} {}

  /// Must not take long.
  virtual result<void> step() = 0;
  /// Of what was found and not told.
  virtual std::size_t found_bytes() const = 0;
  /// Tells it, as much as an answer holds.
  virtual frame<proto::InspectAnswer> tell() = 0;

  /// No step follows.
  void end() {
    has_ended_ = true;
  }
  void end_at_limit() {
    has_ended_ = true;
    is_truncated_ = true;
  }
  bool has_ended() const {
    return has_ended_;
  }
  bool is_truncated() const {
    return is_truncated_;
  }

private:
  clock::duration deadline_;
  clock::duration spent_{};
  bool has_ended_ = false;
  bool is_truncated_ = false;
};

} // namespace coppice::storage::inspection
