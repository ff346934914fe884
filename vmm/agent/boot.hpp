#pragma once

#include "vmm/agent/descriptor.hpp"

/// From the kernel's start of /init to an open channel. Touches no disk.
namespace coppice::agent {

/// Mounts the agent's own /proc, /sys and /dev, loads the modules of /modules/order.
result<void> prepare_own_system();

/// Waits for the virtio-serial port of the host and until the host's end is open.
result<descriptor> open_host_port();

} // namespace coppice::agent
