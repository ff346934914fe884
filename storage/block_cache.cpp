#include "storage/block_cache.hpp"

#include "storage/error.hpp"

#include <algorithm>

namespace coppice::storage {

result<const block_cache::page*> block_cache::get(std::uint64_t number) {
  if (auto known = places_.find(number); known != places_.end()) {
    pages_.splice(pages_.begin(), pages_, known->second);
    return &pages_.front();
  }
  page fresh;
  if (pages_.size() >= pages_max_) {
    fresh = std::move(pages_.back()); // with its memory
    places_.erase(fresh.number);
    pages_.pop_back();
  }
  fresh.number = number;
  const auto begin = number * page_bytes;
  fresh.bytes.resize(
      static_cast<std::size_t>(std::min<std::uint64_t>(page_bytes, size_bytes() - begin)));
  if (auto read = disk_->read(begin, fresh.bytes); !read) {
    return read.error();
  }
  pages_.push_front(std::move(fresh));
  places_.emplace(number, pages_.begin());
  return &pages_.front();
}

result<void> block_cache::read(std::uint64_t offset_bytes, std::span<std::byte> out) {
  if (offset_bytes > size_bytes() || out.size() > size_bytes() - offset_bytes) {
    return fail(ec::io,
                "reading past the end of the disk at offset " + std::to_string(offset_bytes));
  }
  if (out.size() >= passed_by_bytes) {
    return disk_->read(offset_bytes, out);
  }
  while (!out.empty()) {
    auto found = get(offset_bytes / page_bytes);
    if (!found) {
      return found.error();
    }
    const auto inside = static_cast<std::size_t>(offset_bytes % page_bytes);
    const auto length = std::min(out.size(), (*found)->bytes.size() - inside);
    std::copy_n((*found)->bytes.begin() + static_cast<std::ptrdiff_t>(inside), length, out.begin());
    out = out.subspan(length);
    offset_bytes += length;
  }
  return {};
}

} // namespace coppice::storage
