#include "storage/disk/engine_bytes.hpp"

#include "storage/error.hpp"

#include <algorithm>

namespace coppice::storage {

namespace {

/// Tables lie together: few calls get them all.
constexpr std::uint64_t piece_bytes = 256u << 10;

} // namespace

engine_bytes::engine_bytes(std::string name, read_piece from, const std::atomic<bool>& is_stopped,
                           std::string stopped)
    : name_{std::move(name)}, from_{std::move(from)}, is_stopped_{is_stopped}, stopped_{std::move(
                                                                                   stopped)} {}

result<std::unique_ptr<engine_bytes>> engine_bytes::open(std::string name, read_piece from,
                                                         const std::atomic<bool>& is_stopped,
                                                         std::string stopped) {
  std::unique_ptr<engine_bytes> made{
      new engine_bytes{std::move(name), std::move(from), is_stopped, std::move(stopped)}};
  if (auto done = made->load(0); !done) {
    return done.error();
  }
  return made;
}

result<void> engine_bytes::read(std::uint64_t offset_bytes, std::span<std::byte> out) const {
  while (!out.empty()) {
    const auto begin = offset_bytes / piece_bytes * piece_bytes;
    if (begin != begin_) {
      if (auto done = load(begin); !done) {
        return done;
      }
    }
    const auto within = static_cast<std::size_t>(offset_bytes - begin);
    const auto here = std::min(out.size(), static_cast<std::size_t>(piece_bytes) - within);
    const auto there = piece_.bytes.size() - std::min(piece_.bytes.size(), within);
    const auto copied = std::min(here, there);
    std::copy_n(piece_.bytes.begin() + static_cast<std::ptrdiff_t>(piece_.bytes.size() - there),
                copied, out.begin());
    std::fill_n(out.begin() + static_cast<std::ptrdiff_t>(copied), here - copied, std::byte{0});
    offset_bytes += here;
    out = out.subspan(here);
  }
  return {};
}

result<void> engine_bytes::load(std::uint64_t begin) const {
  if (is_stopped_) {
    return fail(ec::conflict, stopped_);
  }
  auto piece = wait_for<engine::file_piece>(
      [&](engine::answer<engine::file_piece> then) { from_(begin, piece_bytes, std::move(then)); });
  if (!piece) {
    return piece.error();
  }
  piece_ = std::move(*piece);
  begin_ = begin;
  return {};
}

} // namespace coppice::storage
