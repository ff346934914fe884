#pragma once

#include "vmm/machine.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

namespace coppice::tests {

/// Writes down what a machine tells its owner, in order.
class machine_watch {
public:
  vmm::machine::callbacks callbacks() {
    vmm::machine::callbacks out;
    out.on_ready = [this](frame<proto::FromGuest> m) {
      note("ready", std::move(m));
    };
    out.on_message = [this](frame<proto::FromGuest> m) {
      note("message", std::move(m));
    };
    out.on_failed = [this](std::string why) {
      {
        std::lock_guard lock{mutex_};
        failure_ = std::move(why);
      }
      note("failed", {});
    };
    out.on_gone = [this](bool killed) {
      note(killed ? "gone killed" : "gone", {});
    };
    return out;
  }

  /// False when that has not been said in time.
  bool wait_for(const std::string& what, std::chrono::seconds patience = std::chrono::seconds{20}) {
    std::unique_lock lock{mutex_};
    return changed_.wait_for(lock, patience, [&] {
      return std::any_of(said_.begin(), said_.end(),
                         [&](const auto& s) { return s.starts_with(what); });
    });
  }

  std::vector<std::string> said() {
    std::lock_guard lock{mutex_};
    return said_;
  }

  std::string failure() {
    std::lock_guard lock{mutex_};
    return failure_;
  }

  frame<proto::FromGuest> last_message() {
    std::lock_guard lock{mutex_};
    return message_;
  }

private:
  void note(const char* what, frame<proto::FromGuest> message) {
    std::lock_guard lock{mutex_};
    said_.emplace_back(what);
    if (!message.empty()) {
      message_ = std::move(message);
    }
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> said_;
  std::string failure_;
  frame<proto::FromGuest> message_;
};

} // namespace coppice::tests
