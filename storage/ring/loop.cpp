#include "storage/ring/loop.hpp"

#include "storage/ring/signals.hpp"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace coppice::storage {

struct loop::impl {
  /// The request that waits for the mailbox's bell, for as long as the loop runs.
  struct listening : io_request {
    impl* owner = nullptr;
    eventfd_t rung = 0;
  };

  impl(std::unique_ptr<ring> on, unsigned number)
      : requests{std::move(on)}, bell{::eventfd(0, EFD_CLOEXEC)} {
    if (bell < 0) {
      throw std::system_error{errno, std::generic_category(), "eventfd"};
    }
    bell_read.owner = this;
    bell_read.what = io_request::call::read;
    bell_read.fd = bell;
    bell_read.offset = io_request::no_offset;
    bell_read.buffer = &bell_read.rung;
    bell_read.length = sizeof(bell_read.rung);
    bell_read.done = [](io_request& ended) {
      auto* self = static_cast<listening&>(ended).owner;
      if (!self->is_over) {
        self->requests->submit(self->bell_read);
      }
    };
    without_signals guard;
    thread = std::thread{[this] {
      work();
    }};
    ::pthread_setname_np(thread.native_handle(), ("disk-" + std::to_string(number)).c_str());
  }

  ~impl() {
    {
      std::lock_guard guard{mutex};
      is_closed = true;
      ring_bell();
    }
    thread.join();
    ::close(bell);
  }

  void post(std::function<void()> work) {
    std::lock_guard guard{mutex};
    if (is_closed && current != this) {
      return;
    }
    mailbox.push_back(std::move(work));
    // Under the lock, which the destructor takes too: the bell is still there. Who finds something
    // in the mailbox knows that the bell was rung for it.
    if (mailbox.size() == 1) {
      ring_bell();
    }
  }

  void ring_bell() const {
    ::eventfd_write(bell, 1); // fails only where 2^64 - 2 are waiting
  }

  void work() {
    current = this;
    requests->submit(bell_read);
    do {
      requests->turn();
      run_posted();
    } while (!nothing_is_left());
    is_over = true;
    ring_bell();
    while (requests->pending() > 0) {
      requests->turn();
    }
  }

  void run_posted() {
    std::vector<std::function<void()>> posted;
    {
      std::lock_guard guard{mutex};
      posted.swap(mailbox);
    }
    for (auto& next : posted) {
      next();
      next = nullptr; // what it holds goes in order, too
    }
  }

  bool nothing_is_left() {
    std::lock_guard guard{mutex};
    return is_closed && mailbox.empty() && requests->pending() == 1; // the one that listens
  }

  static thread_local const impl* current;

  std::unique_ptr<ring> requests;
  int bell;
  listening bell_read;
  bool is_over = false; ///< only the loop's thread

  std::mutex mutex;
  std::vector<std::function<void()>> mailbox;
  bool is_closed = false;

  std::thread thread;
};

thread_local const loop::impl* loop::impl::current = nullptr;

loop::loop(std::unique_ptr<ring> on, unsigned number)
    : impl_{std::make_unique<impl>(std::move(on), number)} {
  // nop
}

loop::~loop() = default;

void loop::post(std::function<void()> work) {
  impl_->post(std::move(work));
}

ring& loop::requests() {
  return *impl_->requests;
}

bool loop::is_current_thread() const {
  return impl::current == impl_.get();
}

} // namespace coppice::storage
