#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace coppice::vmm {

/// User ids for jails, each for one live jail at a time.
///
/// Problem: two processes with one uid may signal and trace each other wherever a namespace
/// fails to keep them apart. An id that was given back is used again as late as possible.
class uid_pool {
public:
  uid_pool(std::uint32_t first, std::uint32_t count) : first_{first}, is_taken_(count, false) {}

  /// Nothing: all are in use.
  std::optional<std::uint32_t> take() {
    for (std::size_t tried = 0; tried < is_taken_.size(); ++tried) {
      const auto at = next_;
      next_ = (next_ + 1) % is_taken_.size();
      if (!is_taken_[at]) {
        is_taken_[at] = true;
        return first_ + static_cast<std::uint32_t>(at);
      }
    }
    return std::nullopt;
  }

  /// What was not taken is ignored.
  void give_back(std::uint32_t uid) {
    if (uid >= first_ && uid - first_ < is_taken_.size()) {
      is_taken_[uid - first_] = false;
    }
  }

private:
  std::uint32_t first_;
  std::size_t next_ = 0;
  std::vector<bool> is_taken_;
};

} // namespace coppice::vmm
