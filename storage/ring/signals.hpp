#pragma once

#include <pthread.h>
#include <signal.h>

namespace coppice::storage {

/// While it lives, threads that are started take no signals: those belong to main's thread.
class without_signals {
public:
  without_signals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~without_signals() {
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  without_signals(const without_signals&) = delete;
  without_signals& operator=(const without_signals&) = delete;

private:
  sigset_t before_{};
};

} // namespace coppice::storage
