#pragma once

#include "actors/settings.hpp"
#include "protocol/result.hpp"
#include "vmm/event_loop.hpp"
#include "vmm/machine.hpp"

namespace coppice {

/// What the configured VMs are made of, but for the accelerator.
vmm::machine_options machine_options_of(const settings& config);

/// Chooses the accelerator as configured: `tcg` without a look; `kvm` and `auto` by really booting
/// a guest, once for each combination of host kernel, boot, QEMU, guest kernel and initramfs (the
/// verdict is kept in the state folder). Blocks for up to vm.probe_timeout.
/// missing: `kvm` was asked for and does not work here; the text has the reason.
result<vmm::accelerator_verdict> choose_accelerator(const settings& config, vmm::event_loop& loop);

} // namespace coppice
