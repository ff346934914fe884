#include "storage/ring/ring.hpp"

#include <fcntl.h>
#include <liburing.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <system_error>
#include <thread>
#include <utility>

namespace coppice::storage {

namespace {

using call = io_request::call;

/// Linux moves no more than this with one call (MAX_RW_COUNT); the field has 32 bits.
constexpr std::uint64_t length_max = 0x7ffff000;

/// Receives wait in the kernel for as long as their peers are silent, and each needs a place for
/// its completion: with the usual 256 entries there are 4,096 places, which take 64 KiB.
constexpr unsigned completions_per_entry = 16;

// In user_data, in the bits that an aligned pointer has free.
constexpr std::uint64_t second_of_pair = 1;
constexpr std::uint64_t not_run = 2;
static_assert(alignof(io_request) > (second_of_pair | not_run));

/// The best first: completions are then handled on the owner's thread, when it asks for them and
/// not by interrupting it. DEFER_TASKRUN is Linux 6.1, COOP_TASKRUN 5.19. The ring is made disabled
/// because the thread that enables it becomes its only user.
constexpr std::array set_up_flags = {
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
        IORING_SETUP_R_DISABLED,
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN,
    0u,
};

struct needed_operation {
  int code;
  const char* name;
};

constexpr std::array needed_operations = {
    needed_operation{IORING_OP_OPENAT, "openat"},
    needed_operation{IORING_OP_CLOSE, "close"},
    needed_operation{IORING_OP_READ, "read"},
    needed_operation{IORING_OP_WRITE, "write"},
    needed_operation{IORING_OP_FSYNC, "fsync"},
    needed_operation{IORING_OP_FALLOCATE, "fallocate"},
    needed_operation{IORING_OP_RENAMEAT, "renameat"},
    needed_operation{IORING_OP_UNLINKAT, "unlinkat"},
    needed_operation{IORING_OP_STATX, "statx"},
    needed_operation{IORING_OP_RECV, "recv"},
    needed_operation{IORING_OP_SEND, "send"},
};

/// Without FAST_POLL each waiting receive would hold a thread of the kernel's.
constexpr unsigned needed_features =
    IORING_FEAT_NODROP | IORING_FEAT_RW_CUR_POS | IORING_FEAT_FAST_POLL;

/// The kernel's two queues.
class queues {
public:
  /// 0 or a negated errno.
  int set_up(unsigned entries) {
    int status = -EINVAL;
    for (auto flags : set_up_flags) {
      params_ = {};
      params_.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
      params_.cq_entries = entries * completions_per_entry;
      status = ::io_uring_queue_init_params(entries, &ring_, &params_);
      if (status != -EINVAL) { // which is how a kernel refuses flags that it does not know
        break;
      }
    }
    is_set_up_ = status == 0;
    return status;
  }

  queues() = default;
  ~queues() {
    if (is_set_up_) {
      ::io_uring_queue_exit(&ring_);
    }
  }
  queues(const queues&) = delete;
  queues& operator=(const queues&) = delete;

  /// Binds them to the calling thread, at the first call.
  int enable() {
    if ((params_.flags & IORING_SETUP_R_DISABLED) == 0 || is_enabled_) {
      return 0;
    }
    is_enabled_ = true;
    // The shared library of liburing 2.3 forgot io_uring_enable_rings.
    auto status =
        ::syscall(SYS_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
    return status < 0 ? -errno : 0;
  }

  io_uring* get() {
    return &ring_;
  }
  const io_uring_params& params() const {
    return params_;
  }

private:
  io_uring ring_{};
  io_uring_params params_{};
  bool is_set_up_ = false;
  bool is_enabled_ = false;
};

unsigned length_of(const io_request& request) {
  return static_cast<unsigned>(std::min(request.length, length_max));
}

void prepare(io_uring_sqe* to, io_request& from, bool is_first_of_pair) {
  // A send that ends short would not break a link otherwise.
  auto socket_flags = from.flags | MSG_NOSIGNAL | (is_first_of_pair ? MSG_WAITALL : 0);
  switch (from.what) {
  case call::open:
    ::io_uring_prep_openat(to, AT_FDCWD, from.path, from.flags, from.mode);
    break;
  case call::close:
    ::io_uring_prep_close(to, from.fd);
    break;
  case call::read:
    ::io_uring_prep_read(to, from.fd, from.buffer, length_of(from), from.offset);
    break;
  case call::write:
    ::io_uring_prep_write(to, from.fd, from.buffer, length_of(from), from.offset);
    break;
  case call::sync_data:
    ::io_uring_prep_fsync(to, from.fd, IORING_FSYNC_DATASYNC);
    break;
  case call::sync:
    ::io_uring_prep_fsync(to, from.fd, 0);
    break;
  case call::allocate:
    ::io_uring_prep_fallocate(to, from.fd, from.flags, static_cast<off_t>(from.offset),
                              static_cast<off_t>(from.length));
    break;
  case call::rename:
    ::io_uring_prep_renameat(to, AT_FDCWD, from.path, AT_FDCWD, from.path_to,
                             static_cast<unsigned>(from.flags));
    break;
  case call::remove:
    ::io_uring_prep_unlinkat(to, AT_FDCWD, from.path, from.flags);
    break;
  case call::stat:
    ::io_uring_prep_statx(to, from.path ? AT_FDCWD : from.fd, from.path ? from.path : "",
                          from.flags | (from.path ? 0 : AT_EMPTY_PATH), STATX_BASIC_STATS,
                          from.status);
    break;
  case call::receive:
    ::io_uring_prep_recv(to, from.fd, from.buffer, length_of(from), socket_flags & ~MSG_NOSIGNAL);
    break;
  case call::send:
    ::io_uring_prep_send(to, from.fd, from.buffer, length_of(from), socket_flags);
    break;
  }
}

class uring final : public ring {
public:
  explicit uring(unsigned entries) {
    // A pair needs two.
    if (auto status = queues_.set_up(std::max(entries, 2u)); status < 0) {
      throw std::system_error{-status, std::generic_category(), "io_uring_setup"};
    }
  }

  void submit(io_request& request) override {
    waiting_.push_back({&request, nullptr});
    ++pending_;
  }

  void submit_linked(io_request& first, io_request& second) override {
    waiting_.push_back({&first, &second});
    pending_ += 2;
  }

  void turn() override {
    if (pending_ == 0) {
      return;
    }
    if (auto status = queues_.enable(); status < 0) {
      throw std::system_error{-status, std::generic_category(), "io_uring_register"};
    }
    // Nothing may stay outside while there is room in the kernel: what is there already may wait
    // for a peer whom only what is still outside makes go on.
    for (fill(); has_room(); fill()) {
      if (!enter(0)) {
        break;
      }
    }
    auto* kernel = queues_.get();
    while (::io_uring_cq_ready(kernel) == 0 || ::io_uring_sq_ready(kernel) > 0) {
      if (!enter(1) && ::io_uring_cq_ready(kernel) > 0) {
        break;
      }
    }
    deliver();
  }

  std::size_t pending() const override {
    return pending_;
  }

private:
  struct waiting {
    io_request* first;
    io_request* second; ///< of a pair, or null
    unsigned count() const {
      return second ? 2 : 1;
    }
  };

  /// No more than there are places for completions: none is ever lost or put aside.
  bool has_room() const {
    return !waiting_.empty() &&
           in_kernel_ + waiting_.front().count() <= queues_.params().cq_entries;
  }

  /// Moves what waits into the submission queue; never one half of a pair.
  void fill() {
    auto* kernel = queues_.get();
    while (has_room() && ::io_uring_sq_space_left(kernel) >= waiting_.front().count()) {
      auto next = waiting_.front();
      waiting_.pop_front();
      put(*next.first, next.second ? IOSQE_IO_LINK : 0, 0);
      if (next.second) {
        put(*next.second, 0, second_of_pair);
      }
    }
  }

  void put(io_request& request, unsigned flags, std::uint64_t mark) {
    auto* entry = ::io_uring_get_sqe(queues_.get());
    prepare(entry, request, flags == IOSQE_IO_LINK);
    ::io_uring_sqe_set_flags(entry, flags);
    ::io_uring_sqe_set_data64(entry, reinterpret_cast<std::uintptr_t>(&request) | mark);
    ++in_kernel_;
  }

  /// One call into the kernel: hands over what is in the submission queue and waits for `ends`
  /// completions. False: it was interrupted, or the kernel is short of memory.
  bool enter(unsigned ends) {
    auto* kernel = queues_.get();
    auto status = ::io_uring_submit_and_wait(kernel, ends);
    if (status >= 0) {
      if (::io_uring_sq_ready(kernel) > 0) {
        keep_second_from_running();
      }
      return true;
    }
    if (status == -EAGAIN || status == -EBUSY) {
      std::this_thread::yield();
    } else if (status != -EINTR) {
      throw std::system_error{-status, std::generic_category(), "io_uring_enter"};
    }
    return false;
  }

  /// The kernel may run out of memory anywhere, also after the first of a pair. The second would
  /// start on its own with the next call, beside or before the first.
  void keep_second_from_running() {
    auto& queue = queues_.get()->sq;
    auto* next = &queue.sqes[*queue.khead & queue.ring_mask];
    if ((next->user_data & second_of_pair) != 0) {
      auto data = next->user_data;
      ::io_uring_prep_nop(next);
      ::io_uring_sqe_set_data64(next, data | not_run);
    }
  }

  void deliver() {
    auto* kernel = queues_.get();
    // Only what is there now: a `done` that always asks for more would keep the others waiting.
    for (auto left = ::io_uring_cq_ready(kernel); left > 0; --left) {
      io_uring_cqe* end = nullptr;
      if (::io_uring_peek_cqe(kernel, &end) != 0) {
        return;
      }
      auto data = end->user_data;
      auto result = (data & not_run) != 0 ? -ECANCELED : end->res;
      ::io_uring_cqe_seen(kernel, end);
      --in_kernel_;
      --pending_;
      auto& request = *reinterpret_cast<io_request*>(data & ~(second_of_pair | not_run));
      request.result = result;
      request.done(request);
    }
  }

  queues queues_;
  std::deque<waiting> waiting_;
  std::size_t pending_ = 0;
  unsigned in_kernel_ = 0; ///< or in the submission queue
};

std::string setup_obstacle(int status) {
  auto why = std::string{std::strerror(-status)};
  if (status == -ENOSYS) {
    return "this kernel has no io_uring: Linux 5.11 or later with CONFIG_IO_URING is needed";
  }
  if (status == -EPERM || status == -EACCES) {
    return "io_uring is not allowed here (" + why +
           "): set the sysctl kernel.io_uring_disabled to 0 and let the seccomp profile of the "
           "service or container pass io_uring_setup, io_uring_enter and io_uring_register";
  }
  if (status == -ENOMEM) {
    return "there is no memory for io_uring (" + why + "): raise the limit on locked memory";
  }
  return "io_uring failed (" + why + ")";
}

/// One empty request there and back: a seccomp profile may pass the one call and stop the other.
int round_trip(queues& through) {
  if (auto status = through.enable(); status < 0) {
    return status;
  }
  ::io_uring_prep_nop(::io_uring_get_sqe(through.get()));
  int status = -EINTR;
  while (status == -EINTR) {
    status = ::io_uring_submit_and_wait(through.get(), 1);
  }
  return status;
}

} // namespace

std::string uring_obstacle() {
  queues tried;
  if (auto status = tried.set_up(2); status < 0) {
    return setup_obstacle(status);
  }
  constexpr auto too_old = ": Linux 5.11 or later is needed";
  if ((tried.params().features & needed_features) != needed_features) {
    return std::string{"the io_uring of this kernel cannot wait for sockets"} + too_old;
  }
  auto* known = ::io_uring_get_probe_ring(tried.get());
  if (known == nullptr) {
    return std::string{"io_uring cannot say what it knows (io_uring_register is refused)"} +
           too_old;
  }
  std::string missing;
  for (auto [code, name] : needed_operations) {
    if (!::io_uring_opcode_supported(known, code)) {
      missing += std::string{missing.empty() ? "" : ", "} + name;
    }
  }
  ::io_uring_free_probe(known);
  if (!missing.empty()) {
    return "the io_uring of this kernel does not know " + missing + too_old;
  }
  if (auto status = round_trip(tried); status < 0) {
    return setup_obstacle(status);
  }
  return {};
}

std::unique_ptr<ring> make_uring(unsigned entries) {
  if (auto obstacle = uring_obstacle(); !obstacle.empty()) {
    throw std::system_error{std::make_error_code(std::errc::operation_not_supported), obstacle};
  }
  return std::make_unique<uring>(entries);
}

} // namespace coppice::storage
