#pragma once

#include "storage/ring/task.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace coppice::storage {

/// A disk as the disk server sees it. Everything is in whole clusters (extent.hpp); the server has
/// checked offsets and lengths against the size before it calls. Results are 0 or a positive errno:
/// what goes over the wire is no more than that. One thread, several calls in the air; calls on the
/// same bytes may end in any order.
class block_device {
public:
  virtual ~block_device() = default;

  virtual std::uint64_t size_bytes() const = 0;

  virtual task<int> read(std::uint64_t offset_bytes, std::span<std::byte> out) = 0;
  virtual task<int> write(std::uint64_t offset_bytes, std::span<const std::byte> data) = 0;
  /// The range reads as zeros afterwards and takes no space: trim and write-zeroes alike.
  virtual task<int> zero(std::uint64_t offset_bytes, std::uint64_t length_bytes) = 0;

  struct status_run {
    std::uint64_t length_bytes = 0;
    bool is_zeros = false;
  };
  /// From `offset_bytes` on, adjacent runs, at most `runs_max` and not beyond `length_bytes`.
  virtual std::vector<status_run> status(std::uint64_t offset_bytes, std::uint64_t length_bytes,
                                         std::size_t runs_max) = 0;
};

} // namespace coppice::storage
