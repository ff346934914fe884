#pragma once

#include "protocol/result.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>

namespace coppice::storage {

/// Space that new work may not touch.
///
/// Problem: a disk that is full to the last byte fails every run that is under way, and the catalog
/// with them. So new work is refused while there is still room for what runs to end.
///
/// Guarantee: `refusal` costs a system call a second at most, however often it is asked. A file
/// system that cannot be asked refuses nothing: whoever writes will hear why. Any thread.
class space_reserve {
public:
  using clock = std::function<std::chrono::steady_clock::time_point()>;
  /// Bytes that unprivileged writers may still use; nothing: it could not be asked.
  using probe = std::function<std::optional<std::uint64_t>()>;

  /// Of the file system of that folder. `reserve_bytes` 0: nothing is ever refused.
  space_reserve(std::filesystem::path folder, std::uint64_t reserve_bytes);
  /// For tests.
  space_reserve(probe free_bytes, std::uint64_t reserve_bytes, clock now);

  /// Why new work must not be taken on now: no_space, with what is free and what to do.
  std::optional<failure> refusal();

  /// What is free, as of at most `fresh_for` ago; nothing: it cannot be asked.
  std::optional<std::uint64_t> free_bytes();

  static constexpr std::chrono::seconds fresh_for{1};

private:
  probe probe_;
  std::uint64_t reserve_bytes_;
  clock now_;
  std::mutex mutex_;
  std::optional<std::chrono::steady_clock::time_point> asked_at_;
  std::optional<std::uint64_t> answer_;
};

} // namespace coppice::storage
