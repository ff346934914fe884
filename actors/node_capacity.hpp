#pragma once

#include "actors/settings.hpp"
#include "vmm/machine.hpp"

#include <cstdint>

/// How much of the node microVMs may take together.
///
/// Problem: under TCG more virtual processors than cores give latency and no throughput; under KVM
/// most guests idle, and some overcommitment is right; memory bounds both. Guarantee: the default
/// class always fits, so that a node that starts can run something.
namespace coppice {

/// What each QEMU needs beside its guest's memory, most of it translated code.
inline constexpr std::uint32_t vm_overhead_mib = 64;

struct node_size {
  std::uint32_t cores = 1;
  std::uint64_t memory_mib = 0;
};

struct node_capacity {
  std::uint32_t running = 1;
  std::uint32_t cpus = 1;
  std::uint64_t memory_mib = 0; ///< vm_overhead_mib of each included

  bool has_room_for(const machine_class& c) const {
    return running > 0 && c.cpus <= cpus &&
           std::uint64_t{c.memory_mib} + vm_overhead_mib <= memory_mib;
  }
};

/// This machine, or the part of its memory that our control group may use.
node_size size_of_this_node();

node_capacity capacity_of(const settings& config, vmm::accelerator accel, const node_size& node);

} // namespace coppice
