#pragma once

#include "protocol/uuid.hpp"
#include "vmm/unique_fd.hpp"

#include <mutex>
#include <unordered_map>

namespace coppice {

/// The guests' ends of disks that wait for their VMs. A descriptor means something in this process
/// alone, so it does not travel in a message: the store puts it here and the VM takes it.
/// Any thread.
class disk_sockets {
public:
  void put(const uuid& overlay, vmm::unique_fd socket) {
    std::lock_guard lock{mutex_};
    waiting_[overlay] = std::move(socket);
  }

  /// None if it was taken before or never was.
  vmm::unique_fd take(const uuid& overlay) {
    std::lock_guard lock{mutex_};
    auto found = waiting_.extract(overlay);
    return found ? std::move(found.mapped()) : vmm::unique_fd{};
  }

private:
  std::mutex mutex_;
  std::unordered_map<uuid, vmm::unique_fd> waiting_;
};

} // namespace coppice
