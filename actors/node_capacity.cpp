#include "actors/node_capacity.hpp"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>
#include <thread>

namespace coppice {

namespace {

constexpr std::uint32_t overcommit_under_kvm = 4;

std::uint64_t total_memory_kib() {
  std::ifstream lines{"/proc/meminfo"};
  std::string key;
  std::uint64_t kib = 0;
  while (lines >> key >> kib) {
    if (key == "MemTotal:") {
      return kib;
    }
    lines.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return 0;
}

/// The limit of the innermost group that we see, inside a container the container's.
std::uint64_t group_memory_kib() {
  std::ifstream limit{"/sys/fs/cgroup/memory.max"};
  std::uint64_t bytes = 0;
  return limit >> bytes ? bytes >> 10 : std::numeric_limits<std::uint64_t>::max(); // "max"
}

std::uint32_t times(std::uint32_t a, std::uint32_t b) {
  constexpr std::uint64_t most = std::numeric_limits<std::uint32_t>::max();
  return static_cast<std::uint32_t>(std::min(std::uint64_t{a} * b, most));
}

} // namespace

node_size size_of_this_node() {
  return {std::max(1u, std::thread::hardware_concurrency()),
          std::min(total_memory_kib(), group_memory_kib()) >> 10};
}

node_capacity capacity_of(const settings& config, vmm::accelerator accel, const node_size& node) {
  const auto& vm = config.vm;
  const auto smallest = config.default_class();
  const auto usual = times(node.cores, accel == vmm::accelerator::kvm ? overcommit_under_kvm : 1);
  node_capacity out;
  out.running = vm.running_max > 0 ? vm.running_max : usual;
  // Who sets running_max means so many of the default class, whatever the cores.
  out.cpus = vm.cpus_max > 0 ? vm.cpus_max : std::max(usual, times(vm.running_max, smallest.cpus));
  out.cpus = std::max(out.cpus, smallest.cpus);
  out.memory_mib =
      vm.memory_bytes_max > 0 ? vm.memory_bytes_max >> 20 : node.memory_mib - node.memory_mib / 4;
  out.memory_mib = std::max(out.memory_mib, std::uint64_t{smallest.memory_mib} + vm_overhead_mib);
  return out;
}

} // namespace coppice
