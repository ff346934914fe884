#include "vmm/template_store.hpp"

#include "vmm/template_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

namespace coppice::vmm {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view suffix = ".template";
constexpr std::string_view unfinished = ".new";

failure trouble(const fs::path& at) {
  return fail(ec::io, at.string() + ": " + std::strerror(errno));
}

std::string name_of(const sha256_digest& key) {
  return to_text(key) + std::string{suffix};
}

struct kept_file {
  fs::path path;
  std::uint64_t bytes = 0;
  std::int64_t used_ns = 0;
};

std::vector<kept_file> list(const fs::path& folder) {
  std::vector<kept_file> out;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator{folder, ignored}) {
    struct stat st {};
    if (entry.path().extension() == suffix && ::lstat(entry.path().c_str(), &st) == 0) {
      out.push_back({entry.path(), static_cast<std::uint64_t>(st.st_size),
                     std::int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec});
    }
  }
  return out;
}

void remove_file(const fs::path& file) {
  std::error_code ignored;
  fs::remove(file, ignored);
}

result<void> sync_folder(const fs::path& folder) {
  const unique_fd fd{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!fd || ::fsync(fd.get()) != 0) {
    return trouble(folder);
  }
  return {};
}

/// Whoever could have written the file could have written any template.
result<void> check_owner(int file) {
  struct stat st {};
  if (::fstat(file, &st) != 0) {
    return fail(ec::io, std::strerror(errno));
  }
  if (!S_ISREG(st.st_mode) || st.st_uid != ::geteuid() || (st.st_mode & 077) != 0) {
    return fail(ec::stale, "it is not a file that this user alone may read and write");
  }
  return {};
}

} // namespace

result<template_store> template_store::open(fs::path folder, limits within) {
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return trouble(folder);
  }
  struct stat st {};
  if (::stat(folder.c_str(), &st) != 0) {
    return trouble(folder);
  }
  if (!S_ISDIR(st.st_mode) || st.st_uid != ::geteuid() || (st.st_mode & 022) != 0) {
    return fail(ec::io, folder.string() + ": not a folder that this user alone may change");
  }
  std::error_code error;
  for (const auto& entry : fs::directory_iterator{folder, error}) {
    if (entry.path().extension() == unfinished) {
      remove_file(entry.path());
    }
  }
  if (error) {
    return fail(ec::io, folder.string() + ": " + error.message());
  }
  return template_store{std::move(folder), within};
}

template_store::loaded template_store::load(const template_ingredients& ingredients) {
  const auto path = folder_ / name_of(key_of(ingredients));
  const unique_fd file{::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
  if (!file) {
    if (errno == ENOENT) {
      return {};
    }
    auto why = trouble(path).text;
    remove_file(path);
    return {{}, std::move(why)};
  }
  std::string why;
  if (auto owned = check_owner(file.get()); !owned) {
    why = owned.error().text;
  } else if (auto found = read_template(file.get(), ingredients); found) {
    ::utimensat(AT_FDCWD, path.c_str(), nullptr, AT_SYMLINK_NOFOLLOW); // used last: goes last
    return {*found, {}};
  } else {
    why = found.error().text;
  }
  remove_file(path);
  return {{}, "template " + path.string() + " is not used and removed: " + why};
}

/// Before a byte is written: what a file takes while it is written, others may be missing.
result<void> template_store::check_room(const vm_template& made) const {
  struct statvfs at {};
  if (::statvfs(folder_.c_str(), &at) != 0) {
    return trouble(folder_);
  }
  const auto free_bytes = std::uint64_t{at.f_bavail} * at.f_frsize;
  const auto needed = made.ram_allocated_bytes() + made.state_bytes();
  if (free_bytes < needed + limits_.free_bytes_min) {
    return fail(ec::io, folder_.string() + ": " + std::to_string(free_bytes) +
                            " bytes are free; a template of " + std::to_string(needed) +
                            " must leave " + std::to_string(limits_.free_bytes_min));
  }
  return {};
}

result<void> template_store::save(const vm_template& made) {
  if (auto fits = check_room(made); !fits) {
    return fits;
  }
  const auto path = folder_ / name_of(made.key());
  auto beside = path;
  beside += unfinished;
  const unique_fd file{
      ::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600)};
  if (!file) {
    return trouble(beside);
  }
  auto written = write_template(file.get(), made);
  struct stat st {};
  if (written && (::fsync(file.get()) != 0 || ::fstat(file.get(), &st) != 0)) {
    written = trouble(beside);
  }
  if (written && static_cast<std::uint64_t>(st.st_size) > limits_.bytes_max) {
    written = fail(ec::io, "a template of " + std::to_string(st.st_size) +
                               " bytes is more than may be kept (" +
                               std::to_string(limits_.bytes_max) + ")");
  }
  if (written && ::rename(beside.c_str(), path.c_str()) != 0) {
    written = trouble(path);
  }
  if (!written) {
    remove_file(beside);
    return written;
  }
  auto files = list(folder_);
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a.used_ns < b.used_ns; });
  auto left = bytes();
  for (const auto& other : files) {
    if (left > limits_.bytes_max && other.path != path) {
      remove_file(other.path);
      left -= other.bytes;
    }
  }
  return sync_folder(folder_);
}

void template_store::keep_only(std::span<const sha256_digest> keys) {
  for (const auto& file : list(folder_)) {
    const bool is_wanted = std::any_of(keys.begin(), keys.end(), [&](const auto& key) {
      return file.path.filename() == name_of(key);
    });
    if (!is_wanted) {
      remove_file(file.path);
    }
  }
}

std::uint64_t template_store::bytes() const {
  std::uint64_t out = 0;
  for (const auto& file : list(folder_)) {
    out += file.bytes;
  }
  return out;
}

} // namespace coppice::vmm
