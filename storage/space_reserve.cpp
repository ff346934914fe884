#include "storage/space_reserve.hpp"

#include "storage/error.hpp"

#include <sys/statvfs.h>

#include <string>
#include <utility>

namespace coppice::storage {

namespace {

space_reserve::probe free_of(std::filesystem::path folder) {
  return [folder = std::move(folder)]() -> std::optional<std::uint64_t> {
    struct statvfs space {};
    if (::statvfs(folder.c_str(), &space) != 0) {
      return std::nullopt;
    }
    return std::uint64_t{space.f_bavail} * space.f_frsize;
  };
}

std::string mib_text(std::uint64_t bytes) {
  return std::to_string(bytes >> 20) + " MiB";
}

} // namespace

space_reserve::space_reserve(std::filesystem::path folder, std::uint64_t reserve_bytes)
    : space_reserve{free_of(std::move(folder)), reserve_bytes, std::chrono::steady_clock::now} {}

space_reserve::space_reserve(probe free_bytes, std::uint64_t reserve_bytes, clock now)
    : probe_{std::move(free_bytes)}, reserve_bytes_{reserve_bytes}, now_{std::move(now)} {}

std::optional<std::uint64_t> space_reserve::free_bytes() {
  std::lock_guard lock{mutex_};
  const auto now = now_();
  if (!asked_at_ || now - *asked_at_ >= fresh_for) {
    asked_at_ = now;
    answer_ = probe_();
  }
  return answer_;
}

std::optional<failure> space_reserve::refusal() {
  if (reserve_bytes_ == 0) {
    return std::nullopt;
  }
  const auto free = free_bytes();
  if (!free || *free >= reserve_bytes_) {
    return std::nullopt;
  }
  return fail(ec::no_space,
              "the server is short of space: " + mib_text(*free) + " are free and " +
                  mib_text(reserve_bytes_) +
                  " are kept in reserve (store.reserve_bytes); nothing was started. Delete images, "
                  "give its file system more space, or lower the reserve");
}

} // namespace coppice::storage
