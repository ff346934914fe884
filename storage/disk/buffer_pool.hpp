#pragma once

#include <array>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <vector>

namespace coppice::storage {

/// Buffers for the payloads of one connection.
///
/// Problem: a fresh buffer of some hundred KiB costs more page faults than the copy into it takes,
/// and one that was just used is still in the processor's cache. Guarantee: `data` is aligned to
/// pages and has a page before it, so that a reply's header and data are contiguous; what is kept
/// for later stays below a bound. Owner: one thread.
class buffer_pool {
public:
  class buffer {
  public:
    buffer() = default;

    explicit operator bool() const {
      return base_ != nullptr;
    }
    std::byte* data() const {
      return base_.get() + before_bytes;
    }

    static constexpr std::size_t before_bytes = 4096;

  private:
    friend class buffer_pool;
    struct freeing {
      void operator()(std::byte* base) const {
        std::free(base);
      }
    };
    std::unique_ptr<std::byte, freeing> base_;
    std::size_t size_class_ = 0;
  };

  explicit buffer_pool(std::size_t kept_bytes_max) : kept_bytes_max_{kept_bytes_max} {}

  /// With room for `bytes` behind `data`; 32 MiB at most.
  buffer take(std::size_t bytes);
  void give(buffer used);

  /// Keeps nothing.
  void trim();

private:
  /// 4 KiB, 8 KiB … 32 MiB
  static constexpr std::size_t size_classes = 14;

  std::array<std::vector<buffer>, size_classes> kept_;
  std::size_t kept_bytes_ = 0;
  std::size_t kept_bytes_max_;
};

} // namespace coppice::storage
