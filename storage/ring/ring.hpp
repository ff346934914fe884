#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace coppice::storage {

/// One system call that somebody wants made. It belongs to the caller and stays where it is until
/// `done` was called; so do the buffers and names that it points to.
struct io_request {
  enum class call : std::uint8_t {
    open,      ///< openat(AT_FDCWD, path, flags, mode); the result is the descriptor
    close,     ///< close(fd)
    read,      ///< pread(fd, buffer, length, offset)
    write,     ///< pwrite(fd, buffer, length, offset)
    sync_data, ///< fdatasync(fd)
    sync,      ///< fsync(fd); also of a directory
    allocate,  ///< fallocate(fd, flags, offset, length): holes are punched with it
    rename,    ///< renameat2(path, path_to, flags)
    remove,    ///< unlinkat(path, flags)
    stat,      ///< statx(path, or fd itself where path is null): fills `status`
    receive,   ///< recv(fd, buffer, length, flags)
    send,      ///< send(fd, buffer, length, flags | MSG_NOSIGNAL)
  };

  /// As the offset of a `read`: of something that has no offsets and may let one wait, an eventfd.
  static constexpr std::uint64_t no_offset = ~0ull;

  call what = call::read;
  int fd = -1;
  std::uint64_t offset = 0;
  void* buffer = nullptr;
  std::uint64_t length = 0;
  const char* path = nullptr;
  const char* path_to = nullptr;
  int flags = 0;
  mode_t mode = 0;
  struct statx* status = nullptr;

  /// As the system call has it, or the negated errno.
  std::int64_t result = 0;

  /// Called once by the ring's thread, from turn(). May submit more and may destroy the request.
  void (*done)(io_request&) = nullptr;
};

/// The seam through which every byte of the store goes to disk (LMDB's own apart).
///
/// Problem: a server of disks must keep many requests in the air without a thread for each, and its
/// durability must be tested against every fault and every crash. So requests are values, and what
/// carries them out can be exchanged: io_uring, a pool of threads where io_uring is not allowed, a
/// double that fails, stalls and crashes in tests.
///
/// Guarantee: each submitted request is done exactly once, in no certain order. A short read or
/// write is a result, not an error: the callers in io.hpp go on. Sockets are in blocking mode (else
/// io_uring answers EAGAIN instead of waiting); receive and send wait without holding up any other
/// request, and move all that was asked for with MSG_WAITALL. Owner: the thread of the first
/// turn(), which may be another than that of the constructor; nothing is pending when it is
/// destroyed.
class ring {
public:
  virtual ~ring() = default;

  /// Takes a request, which starts at the latest in the next turn().
  virtual void submit(io_request& request) = 0;

  /// `second` starts when `first` has done all it was asked for; else it ends with -ECANCELED. All
  /// of a send or receive, as if it had MSG_WAITALL.
  virtual void submit_linked(io_request& first, io_request& second) = 0;

  /// Starts what was taken and gives the ends of at least one request to their `done`; returns at
  /// once when there is none.
  virtual void turn() = 0;

  /// Requests that were taken and are not done.
  virtual std::size_t pending() const = 0;
};

/// Why io_uring cannot be used here, in one sentence with what to do; empty: it can, with every
/// call above (each is probed).
std::string uring_obstacle();

/// io_uring with `entries` (a power of two) in its queue; 16 times as many may be in the kernel,
/// those that wait for a peer included, and more wait inside. Throws std::system_error where
/// uring_obstacle() is not empty.
std::unique_ptr<ring> make_uring(unsigned entries = 256);

/// The same by `threads` threads that make blocking calls.
std::unique_ptr<ring> make_thread_ring(unsigned threads = 4);

} // namespace coppice::storage
