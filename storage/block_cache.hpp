#pragma once

#include "storage/block_source.hpp"

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

namespace coppice::storage {

/// The pages of a disk that were read of late.
///
/// Problem: who looks at a file system reads its inodes and directories a block at a time, and each
/// is a request to the disk server. So a whole page around them is fetched, and the least recently
/// used one is given up when there are too many. The disk never changes.
/// Guarantee: at most `pages_max` pages of memory; long reads pass it by. Owner: one thread.
class block_cache final : public block_source {
public:
  static constexpr std::size_t page_bytes = 64u << 10;

  /// A read of so much goes to the disk as it is.
  static constexpr std::size_t passed_by_bytes = 512u << 10;

  explicit block_cache(std::unique_ptr<block_source> disk, std::size_t pages_max = 384)
      : disk_{std::move(disk)}, pages_max_{pages_max} {}

  std::uint64_t size_bytes() const override {
    return disk_->size_bytes();
  }
  result<void> read(std::uint64_t offset_bytes, std::span<std::byte> out) override;

private:
  struct page {
    std::uint64_t number = 0;
    std::vector<std::byte> bytes;
  };

  result<const page*> get(std::uint64_t number);

  std::unique_ptr<block_source> disk_;
  std::size_t pages_max_;
  std::list<page> pages_; ///< most recently used first
  std::unordered_map<std::uint64_t, std::list<page>::iterator> places_;
};

} // namespace coppice::storage
