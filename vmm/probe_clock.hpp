#pragma once

#include <cstdint>

namespace coppice::vmm {

/// The rate of this host's time stamp counter in kHz, 0 where it is not constant (or not x86).
///
/// A guest under TCG sees the host's counter, but can only calibrate it against an emulated timer,
/// which fails on a busy host and then hangs the boot: so the guest kernel is told. Measured once
/// against CLOCK_MONOTONIC_RAW, which takes a tenth of a second; later calls are free. Any thread.
std::uint32_t tsc_khz();

} // namespace coppice::vmm
