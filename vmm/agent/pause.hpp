#pragma once

#include <ctime>

namespace coppice::agent {

/// For the few things of the kernel that cannot be waited for; always in a bounded loop.
inline void pause_ms(long ms) {
  timespec t{ms / 1000, (ms % 1000) * 1'000'000};
  ::nanosleep(&t, nullptr);
}

} // namespace coppice::agent
