#pragma once

#include "vmm/unique_fd.hpp"

#include <cstdint>
#include <mutex>
#include <unordered_map>

namespace coppice {

/// The guests' ends of disk slots that wait for their VMs. A descriptor means something in this
/// process alone, so it does not travel in a message: the store puts it here and who starts the VM
/// takes it. Any thread.
class disk_sockets {
public:
  void put(std::uint64_t slot, vmm::unique_fd socket) {
    std::lock_guard lock{mutex_};
    waiting_[slot] = std::move(socket);
  }

  /// None if it was taken before or never was.
  vmm::unique_fd take(std::uint64_t slot) {
    std::lock_guard lock{mutex_};
    auto found = waiting_.extract(slot);
    return found ? std::move(found.mapped()) : vmm::unique_fd{};
  }

private:
  std::mutex mutex_;
  std::unordered_map<std::uint64_t, vmm::unique_fd> waiting_;
};

} // namespace coppice
