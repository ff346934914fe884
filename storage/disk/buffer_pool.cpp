#include "storage/disk/buffer_pool.hpp"

#include <algorithm>
#include <bit>
#include <new>
#include <utility>

namespace coppice::storage {

namespace {

constexpr std::size_t page_bytes = 4096;

std::size_t bytes_of(std::size_t size_class) {
  return page_bytes << size_class;
}

} // namespace

buffer_pool::buffer buffer_pool::take(std::size_t bytes) {
  auto pages = (std::max<std::size_t>(bytes, 1) + page_bytes - 1) / page_bytes;
  auto size_class = static_cast<std::size_t>(std::bit_width(pages - 1));
  if (auto& kept = kept_.at(size_class); !kept.empty()) {
    auto out = std::move(kept.back()); // the last that was used: its bytes are in the cache
    kept.pop_back();
    kept_bytes_ -= bytes_of(size_class);
    return out;
  }
  auto* base = std::aligned_alloc(page_bytes, buffer::before_bytes + bytes_of(size_class));
  if (base == nullptr) {
    throw std::bad_alloc{};
  }
  buffer out;
  out.base_.reset(static_cast<std::byte*>(base));
  out.size_class_ = size_class;
  return out;
}

void buffer_pool::give(buffer used) {
  auto bytes = bytes_of(used.size_class_);
  if (used && kept_bytes_ + bytes <= kept_bytes_max_) {
    kept_bytes_ += bytes;
    kept_[used.size_class_].push_back(std::move(used));
  }
}

void buffer_pool::trim() {
  for (auto& kept : kept_) {
    kept.clear();
  }
  kept_bytes_ = 0;
}

} // namespace coppice::storage
