#include "vmm/probe_clock.hpp"

#if defined(__x86_64__)

#include <cpuid.h>
#include <x86intrin.h>

#include <ctime>

namespace coppice::vmm {

namespace {

constexpr long window_ns = 100'000'000;
constexpr std::uint64_t second_ns = 1'000'000'000;
constexpr int tries = 16;
// Anything that QEMU runs on lies in between; a value outside means that the measurement failed.
constexpr std::uint64_t khz_min = 100'000;
constexpr std::uint64_t khz_max = 20'000'000;

struct reading {
  std::uint64_t ticks = 0;
  std::uint64_t ns = 0;
};

std::uint64_t raw_clock_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC_RAW, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * second_ns + static_cast<std::uint64_t>(t.tv_nsec);
}

/// Both clocks at one moment: of several tries the one that was interrupted least.
reading read_both() {
  reading best;
  std::uint64_t narrowest = ~std::uint64_t{0};
  for (int i = 0; i < tries; ++i) {
    const std::uint64_t before = __rdtsc();
    const std::uint64_t ns = raw_clock_ns();
    const std::uint64_t after = __rdtsc();
    if (after - before < narrowest) {
      narrowest = after - before;
      best = {before + (after - before) / 2, ns};
    }
  }
  return best;
}

bool is_constant_rate() {
  constexpr unsigned power_leaf = 0x80000007; // AMD64 APM vol. 3, E.4.6; Intel SDM vol. 2, CPUID
  constexpr unsigned invariant_tsc = 1u << 8;
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid(power_leaf, &a, &b, &c, &d) != 0 && (d & invariant_tsc) != 0;
}

std::uint32_t measure() {
  if (!is_constant_rate()) {
    return 0;
  }
  const auto first = read_both();
  const timespec window{0, window_ns};
  ::nanosleep(&window, nullptr); // cut short by a signal: a less exact value, not a wrong one
  const auto second = read_both();
  if (second.ns <= first.ns || second.ticks <= first.ticks) {
    return 0;
  }
  const auto khz = static_cast<std::uint64_t>(static_cast<double>(second.ticks - first.ticks) *
                                                  1e6 / static_cast<double>(second.ns - first.ns) +
                                              0.5);
  return khz < khz_min || khz > khz_max ? 0 : static_cast<std::uint32_t>(khz);
}

} // namespace

std::uint32_t tsc_khz() {
  static const std::uint32_t value = measure();
  return value;
}

} // namespace coppice::vmm

#else

namespace coppice::vmm {

std::uint32_t tsc_khz() {
  return 0;
}

} // namespace coppice::vmm

#endif
