#pragma once

#include "actors/settings.hpp"
#include "vmm/machine.hpp"

#include <cstdint>
#include <mutex>

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

/// What a machine of this node can have at most, for whoever must refuse what never fits: first the
/// best that may turn out, from when the accelerator is chosen exactly what there is. Any thread.
class known_capacity {
public:
  explicit known_capacity(const node_capacity& at_most = {}) : now_{at_most} {}

  void set(const node_capacity& exact) {
    std::lock_guard lock{mutex_};
    now_ = exact;
    is_exact_ = true;
  }
  node_capacity get() const {
    std::lock_guard lock{mutex_};
    return now_;
  }
  bool is_exact() const {
    std::lock_guard lock{mutex_};
    return is_exact_;
  }

private:
  mutable std::mutex mutex_;
  node_capacity now_;
  bool is_exact_ = false;
};

/// This machine, or the part of its memory that our control group may use.
node_size size_of_this_node();

node_capacity capacity_of(const settings& config, vmm::accelerator accel, const node_size& node);

} // namespace coppice
