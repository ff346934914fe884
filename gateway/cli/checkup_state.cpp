#include "gateway/cli/checkup.hpp"
#include "gateway/cli/units.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace coppice::cli {
namespace {

constexpr std::uint64_t free_bytes_min = 1ull << 30;
constexpr std::uint64_t free_bytes_wanted = 10ull << 30;

/// The folder, or what is above it where it does not exist yet.
std::filesystem::path nearest_existing(std::filesystem::path folder) {
  std::error_code ignored;
  while (!std::filesystem::exists(folder, ignored) && folder.has_relative_path()) {
    folder = folder.parent_path();
  }
  return folder;
}

finding check_folder(const std::filesystem::path& folder, const std::filesystem::path& existing) {
  if (::access(existing.c_str(), W_OK | X_OK) != 0) {
    return {verdict::fail, "state folder", existing.string() + ": " + std::strerror(errno),
            "run as a user that may write there, or set state_dir"};
  }
  if (existing != folder) {
    return {verdict::ok, "state folder", folder.string() + " will be made by 'coppice serve'", ""};
  }
  struct stat info {};
  if (::stat(folder.c_str(), &info) == 0 && (info.st_mode & 077u) != 0) {
    return {verdict::warn, "state folder", folder.string() + " is open to other users",
            "chmod 700 " + folder.string()};
  }
  return {verdict::ok, "state folder", folder.string(), ""};
}

/// The lock is held by a daemon for as long as it lives.
finding check_lock(const std::filesystem::path& folder) {
  int fd = ::open((folder / "lock").c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return {verdict::ok, "daemon", "none runs on this folder", ""};
  }
  finding found{verdict::ok, "daemon", "none runs on this folder", ""};
  if (::flock(fd, LOCK_SH | LOCK_NB) != 0) {
    std::array<char, 32> pid{};
    auto count = ::read(fd, pid.data(), pid.size() - 1);
    auto length = std::strcspn(pid.data(), "\n");
    found.text = "running" + (count > 0 ? ", pid " + std::string{pid.data(), length} : "");
  }
  ::close(fd);
  return found;
}

finding check_space(const std::filesystem::path& existing) {
  struct statvfs space {};
  if (::statvfs(existing.c_str(), &space) != 0) {
    return {verdict::warn, "space", existing.string() + ": " + std::strerror(errno), ""};
  }
  auto free_bytes = std::uint64_t{space.f_bavail} * space.f_frsize;
  auto text = human_size(free_bytes) + " free for images";
  if (free_bytes < free_bytes_wanted) {
    return {free_bytes < free_bytes_min ? verdict::fail : verdict::warn, "space", text,
            "free some space, or set state_dir to a larger file system"};
  }
  return {verdict::ok, "space", text, ""};
}

finding check_holes(const std::filesystem::path& existing) {
  int fd = ::open(existing.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) {
    return {verdict::warn, "file system", std::string{"cannot be tried: "} + std::strerror(errno),
            "check that it supports sparse files (ext4, XFS, btrfs)"};
  }
  constexpr off_t piece = 1 << 16;
  std::array<char, piece> bytes{};
  bytes.fill('x');
  bool works = ::pwrite(fd, bytes.data(), bytes.size(), 0) == piece &&
               ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, piece) == 0;
  auto why = std::string{std::strerror(errno)};
  ::close(fd);
  if (!works) {
    return {verdict::fail, "file system", "cannot punch holes into files: " + why,
            "set state_dir to a folder on ext4, XFS or btrfs"};
  }
  return {verdict::ok, "file system", "sparse files and holes work", ""};
}

} // namespace

std::vector<finding> check_state_folder(const settings& values) {
  auto existing = nearest_existing(values.state_dir);
  return {check_folder(values.state_dir, existing), check_lock(values.state_dir),
          check_space(existing), check_holes(existing)};
}

} // namespace coppice::cli
