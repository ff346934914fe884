#include "tests/storage/crash/trace.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdlib>

// These take the place of the C library's in this program: what LMDB and the start of a store do to
// the disk is recorded, and then done. That nothing was missed is seen by the test, which compares
// what the trace says with the folder.

namespace {

using coppice::storage::test::crash::current;
using coppice::storage::test::crash::step;
using kind = step::kind;

/// Records `what` on that descriptor, if it is ours, around `call`.
template <class Fill, class Call>
long on_file(int fd, kind what, Fill&& fill, Call&& call) {
  auto* into = current();
  step s;
  auto is_directory = false;
  if (into == nullptr || !into->inside(fd, s, is_directory)) {
    return call();
  }
  s.what = what == kind::sync_file && is_directory ? kind::sync_directory : what;
  fill(s);
  auto number = into->begin(std::move(s));
  auto result = call();
  into->end(number, result < 0 ? -errno : result);
  return result;
}

template <class Call>
long on_path(kind what, const char* path, const char* path_to, Call&& call) {
  auto* into = current();
  step s;
  if (into == nullptr || !into->inside(std::string{path}, s.path)) {
    return call();
  }
  if (path_to != nullptr && !into->inside(std::string{path_to}, s.path_to)) {
    std::abort(); // nothing leaves a store
  }
  s.what = what;
  auto number = into->begin(std::move(s));
  auto result = call();
  into->end(number, result < 0 ? -errno : result);
  return result;
}

void fill_write(step& s, int fd, off_t offset, const iovec* pieces, int count) {
  s.offset = static_cast<std::uint64_t>(offset);
  s.is_durable = (::fcntl(fd, F_GETFL) & O_DSYNC) != 0;
  for (int i = 0; i < count; ++i) {
    const auto* bytes = static_cast<const std::byte*>(pieces[i].iov_base);
    s.data.insert(s.data.end(), bytes, bytes + pieces[i].iov_len);
  }
}

} // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  mode_t mode = 0;
  if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
    va_list rest;
    va_start(rest, flags);
    mode = va_arg(rest, mode_t);
    va_end(rest);
  }
  auto call = [&] {
    return ::syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  };
  auto* into = current();
  step s;
  if (into == nullptr || (flags & O_CREAT) == 0 || !into->inside(std::string{path}, s.path) ||
      ::access(path, F_OK) == 0) {
    return static_cast<int>(call());
  }
  auto fd = static_cast<int>(call());
  auto is_directory = false;
  if (fd >= 0 && into->inside(fd, s, is_directory)) {
    s.what = kind::make_file;
    into->end(into->begin(std::move(s)), 0);
  }
  return fd;
}

ssize_t pwrite(int fd, const void* buffer, size_t length, off_t offset) {
  iovec piece{const_cast<void*>(buffer), length};
  return on_file(
      fd, kind::write, [&](step& s) { fill_write(s, fd, offset, &piece, 1); },
      [&] { return ::syscall(SYS_pwrite64, fd, buffer, length, offset); });
}

ssize_t write(int fd, const void* buffer, size_t length) {
  iovec piece{const_cast<void*>(buffer), length};
  return on_file(
      fd, kind::write, [&](step& s) { fill_write(s, fd, ::lseek(fd, 0, SEEK_CUR), &piece, 1); },
      [&] { return ::syscall(SYS_write, fd, buffer, length); });
}

ssize_t writev(int fd, const iovec* pieces, int count) {
  return on_file(
      fd, kind::write, [&](step& s) { fill_write(s, fd, ::lseek(fd, 0, SEEK_CUR), pieces, count); },
      [&] { return ::syscall(SYS_writev, fd, pieces, count); });
}

ssize_t pwritev(int fd, const iovec* pieces, int count, off_t offset) {
  return on_file(
      fd, kind::write, [&](step& s) { fill_write(s, fd, offset, pieces, count); },
      [&] { return ::syscall(SYS_pwritev, fd, pieces, count, offset, 0); });
}

int ftruncate(int fd, off_t length) noexcept {
  return static_cast<int>(on_file(
      fd, kind::set_length, [&](step& s) { s.length = static_cast<std::uint64_t>(length); },
      [&] { return ::syscall(SYS_ftruncate, fd, length); }));
}

int fsync(int fd) {
  return static_cast<int>(on_file(
      fd, kind::sync_file, [](step&) {}, [&] { return ::syscall(SYS_fsync, fd); }));
}

int fdatasync(int fd) {
  return static_cast<int>(on_file(
      fd, kind::sync_file, [](step&) {}, [&] { return ::syscall(SYS_fdatasync, fd); }));
}

int msync(void* address, size_t length, int flags) {
  if (current() != nullptr) {
    std::abort(); // not ours to model: nothing in the store writes through a map
  }
  return static_cast<int>(::syscall(SYS_msync, address, length, flags));
}

int renameat2(int from_dir, const char* from, int to_dir, const char* to, unsigned flags) noexcept {
  return static_cast<int>(on_path(kind::rename, from, to, [&] {
    return ::syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
  }));
}

int rename(const char* from, const char* to) noexcept {
  return static_cast<int>(on_path(kind::rename, from, to, [&] {
    return ::syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
  }));
}

int unlink(const char* path) noexcept {
  return static_cast<int>(
      on_path(kind::remove, path, nullptr, [&] { return ::syscall(SYS_unlink, path); }));
}

int mkdir(const char* path, mode_t mode) noexcept {
  return static_cast<int>(on_path(kind::make_directory, path, nullptr,
                                  [&] { return ::syscall(SYS_mkdir, path, mode); }));
}

} // extern "C"
