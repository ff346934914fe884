#pragma once

#include <algorithm>
#include <cstdint>

namespace coppice {

/// Decides how much of one output stream is kept. The agent drops beyond the limit as well, but it
/// lives with a hostile guest: this is the count that holds.
class output_meter {
public:
  explicit output_meter(std::uint64_t keep_bytes_max = 0) : keep_bytes_max_{keep_bytes_max} {}

  /// Of `bytes` that just came, how many to keep (the first ones).
  std::uint64_t take(std::uint64_t bytes) {
    auto keep = std::min(bytes, keep_bytes_max_ - kept_bytes_);
    kept_bytes_ += keep;
    seen_bytes_ += bytes;
    return keep;
  }

  /// What the guest says that it produced in all counts if it is more than what came.
  std::uint64_t total_bytes(std::uint64_t said_bytes) const {
    return std::max(seen_bytes_, said_bytes);
  }

  std::uint64_t kept_bytes() const {
    return kept_bytes_;
  }

private:
  std::uint64_t keep_bytes_max_;
  std::uint64_t kept_bytes_ = 0;
  std::uint64_t seen_bytes_ = 0;
};

} // namespace coppice
