#include "storage/file.hpp"

#include "storage/error.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <string>
#include <utility>

namespace coppice::storage {

namespace {

failure failed(int error_number, const char* what, const std::filesystem::path& path) {
  auto text = std::string{"cannot "} + what + " " + path.string();
  if (error_number == EEXIST) {
    return fail(ec::conflict, text + ": it is already there");
  }
  return io_failure(error_number, std::move(text));
}

result<struct stat> status_of(int fd, const std::filesystem::path& path) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) {
    return failed(errno, "look at", path);
  }
  return status;
}

result<off_t> file_offset(std::uint64_t offset_bytes, std::size_t length,
                          const std::filesystem::path& path) {
  constexpr auto end = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
  if (offset_bytes > end || length > end - offset_bytes) {
    return failed(EFBIG, "address", path);
  }
  return static_cast<off_t>(offset_bytes);
}

} // namespace

file::file(int fd, std::filesystem::path path) : fd_{fd}, path_{std::move(path)} {
  // nop
}

file::file(file&& other) noexcept
    : fd_{std::exchange(other.fd_, -1)}, path_{std::move(other.path_)} {
  // nop
}

file& file::operator=(file&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

file::~file() {
  if (fd_ >= 0) {
    ::close(fd_);
  }
}

result<file> file::open(const std::filesystem::path& path, int flags, mode_t mode) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) {
    return failed(errno, "open", path);
  }
  return file{fd, path};
}

result<std::uint64_t> file::size_bytes() const {
  auto status = status_of(fd_, path_);
  if (!status) {
    return status.error();
  }
  return static_cast<std::uint64_t>(status->st_size);
}

result<std::uint64_t> file::allocated_bytes() const {
  auto status = status_of(fd_, path_);
  if (!status) {
    return status.error();
  }
  return static_cast<std::uint64_t>(status->st_blocks) * 512; // unit of stat(2), whatever the disk
}

result<std::size_t> file::read_at(std::uint64_t offset_bytes, std::span<std::byte> out) const {
  auto offset = file_offset(offset_bytes, out.size(), path_);
  if (!offset) {
    return offset.error();
  }
  std::size_t done = 0;
  while (done < out.size()) {
    auto n = ::pread(fd_, out.data() + done, out.size() - done, *offset + static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return failed(errno, "read", path_);
    }
    if (n == 0) {
      break;
    }
    done += static_cast<std::size_t>(n);
  }
  return done;
}

result<void> file::write_at(std::uint64_t offset_bytes, std::span<const std::byte> data) {
  auto offset = file_offset(offset_bytes, data.size(), path_);
  if (!offset) {
    return offset.error();
  }
  std::size_t done = 0;
  while (done < data.size()) {
    auto n =
        ::pwrite(fd_, data.data() + done, data.size() - done, *offset + static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return failed(n < 0 ? errno : EIO, "write", path_);
    }
    done += static_cast<std::size_t>(n);
  }
  return {};
}

result<void> file::set_size(std::uint64_t size_bytes) {
  auto size = file_offset(size_bytes, 0, path_);
  if (!size) {
    return size.error();
  }
  if (::ftruncate(fd_, *size) != 0) {
    return failed(errno, "set the size of", path_);
  }
  return {};
}

result<void> file::set_mode(mode_t mode) {
  if (::fchmod(fd_, mode) != 0) {
    return failed(errno, "set the mode of", path_);
  }
  return {};
}

result<void> file::sync() {
  // Not retried: after a failed fsync the kernel has dropped what it could not write, and a second
  // call would report success for data that is gone.
  if (::fsync(fd_) != 0) {
    return failed(errno, "make durable", path_);
  }
  return {};
}

result<void> sync_directory(const std::filesystem::path& directory) {
  auto opened = file::open(directory, O_RDONLY | O_DIRECTORY);
  if (!opened) {
    return opened.error();
  }
  return opened->sync();
}

result<void> move_durably(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) != 0) {
    return failed(errno, "rename", from.string() + " to " + to.string());
  }
  // The new name first: a crash in between then leaves two names or the new one, never none.
  auto synced = sync_directory(to.parent_path());
  if (!synced || to.parent_path() == from.parent_path()) {
    return synced;
  }
  return sync_directory(from.parent_path());
}

result<bool> remove_file(const std::filesystem::path& path) {
  if (::unlink(path.c_str()) == 0) {
    return true;
  }
  if (errno == ENOENT) {
    return false;
  }
  return failed(errno, "remove", path);
}

} // namespace coppice::storage
