#pragma once

#include "vmm/machine.hpp"

#include <sys/random.h>

#include <chrono>
#include <condition_variable>
#include <ctime>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace coppice::tests {

/// A run's outcome as the guest told it.
struct guest_result {
  std::string output;
  std::string errors;
  std::string failure; ///< "stage: why", or why the VM failed
  int exit_code = -1;
  bool is_clean = false;
};

/// Owner of one VM: starts it, gives it runs, waits. Shared with callbacks, so made by `make`.
class guest : public std::enable_shared_from_this<guest> {
public:
  using seconds = std::chrono::seconds;

  static std::shared_ptr<guest> make() {
    return std::make_shared<guest>();
  }

  vmm::machine::callbacks callbacks() {
    vmm::machine::callbacks on;
    on.on_ready = [self = shared_from_this()](const frame<proto::FromGuest>& message) {
      self->note([&] {
        self->ready_ = message;
        self->is_ready_ = true;
      });
    };
    on.on_message = [self = shared_from_this()](const frame<proto::FromGuest>& message) {
      self->note([&] { self->take(*message.view()); });
      if (auto machine = self->weak_vm_.lock()) {
        machine->consumed(message.bytes().size());
      }
    };
    on.on_failed = [self = shared_from_this()](const std::string& why) {
      self->note([&] { self->failure_ = why; });
    };
    on.on_gone = [self = shared_from_this()](bool) {
      self->note([&] { self->is_gone_ = true; });
    };
    return on;
  }

  void own(std::shared_ptr<vmm::machine> started) {
    vm = std::move(started);
    std::lock_guard lock{mutex_};
    weak_vm_ = vm;
  }

  bool wait_ready(seconds patience = seconds{90}) {
    return wait([&] { return is_ready_ || !failure_.empty(); }, patience) && failure().empty();
  }
  bool wait_gone(seconds patience = seconds{30}) {
    return wait([&] { return is_gone_; }, patience);
  }
  frame<proto::FromGuest> ready() {
    std::lock_guard lock{mutex_};
    return ready_;
  }
  std::string failure() {
    std::lock_guard lock{mutex_};
    return failure_;
  }

  /// Gives the order that a run begins with; `entropy_bytes` are as many as the host owes.
  void begin(const std::string& command, const std::string& host = "guest",
             std::size_t entropy_bytes = 32) {
    begin_with(
        [&](proto::ToGuest::Start::Builder start) {
          start.setHostname(host);
          start.initProcess().setCommand(command);
        },
        entropy_bytes);
  }

  /// The same where more is to be said of the run.
  template <class Fill>
  void begin_with(Fill fill, std::size_t entropy_bytes = 32) {
    {
      std::lock_guard lock{mutex_};
      result_ = {};
      is_finished_ = false;
      ++run_;
    }
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    unsigned char entropy[32];
    static_cast<void>(::getrandom(entropy, sizeof(entropy), 0));
    auto sent = vm->send(make_frame<proto::ToGuest>([&](auto root) {
      root.setRun(run_);
      auto start = root.initStart();
      start.setUnixTimeNs(now.tv_sec * 1'000'000'000LL + now.tv_nsec);
      start.setEntropy({entropy, entropy_bytes});
      start.setTimeoutMs(timeout_ms);
      fill(start);
      start.getProcess().setTruncateOutputAtBytes(1u << 20);
    }));
    if (!sent) {
      note([&] { failure_ = sent.error().text; });
    }
  }

  guest_result end(seconds patience = seconds{60}) {
    const bool in_time = wait([&] { return is_finished_ || !failure_.empty(); }, patience);
    std::lock_guard lock{mutex_};
    if (!in_time || !failure_.empty()) {
      result_.failure = in_time ? failure_ : "nothing was heard";
    }
    return result_;
  }

  guest_result run(const std::string& command, const std::string& host = "guest") {
    begin(command, host);
    return end();
  }

  /// The guest was saved after so many runs.
  void skip_runs(std::uint64_t count) {
    std::lock_guard lock{mutex_};
    run_ += count;
  }

  std::shared_ptr<vmm::machine> vm;
  std::uint64_t timeout_ms = 60'000; ///< of the commands

private:
  template <class Change>
  void note(Change change) {
    std::lock_guard lock{mutex_};
    change();
    changed_.notify_all();
  }

  template <class Reached>
  bool wait(Reached reached, seconds patience) {
    std::unique_lock lock{mutex_};
    return changed_.wait_for(lock, patience, reached);
  }

  void take(proto::FromGuest::Reader message) {
    if (message.isOutput()) {
      auto data = message.getOutput().getData().asChars();
      auto& to = message.getOutput().getIsStderr() ? result_.errors : result_.output;
      to.append(data.begin(), data.size());
    } else if (message.isExited()) {
      result_.exit_code = message.getExited().getResult().getExitCode();
    } else if (message.isFailed()) {
      result_.failure = std::string{message.getFailed().getStage().cStr()} + ": " +
                        message.getFailed().getError().cStr();
    } else if (message.isFinished()) {
      result_.is_clean = message.getFinished().getClean();
      is_finished_ = true;
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::weak_ptr<vmm::machine> weak_vm_;
  std::uint64_t run_ = 0;
  frame<proto::FromGuest> ready_;
  guest_result result_;
  std::string failure_;
  bool is_ready_ = false;
  bool is_finished_ = false;
  bool is_gone_ = false;
};

} // namespace coppice::tests
