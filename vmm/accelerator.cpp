#include "vmm/command_line.hpp"
#include "vmm/machine.hpp"
#include "vmm/probe_clock.hpp"
#include "vmm/unique_fd.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <future>
#include <string>
#include <utility>

namespace coppice::vmm {

namespace {

constexpr std::size_t reason_bytes_max = 400;
// For a killed QEMU to be gone; its disk is nothing, so this is never used up.
constexpr std::chrono::seconds end_timeout{10};

accelerator_verdict tcg_because(const std::string& why) {
  auto reason = "KVM is not used: " + why;
  std::replace(reason.begin(), reason.end(), '\n', ' ');
  return {accelerator::tcg, reason.substr(0, reason_bytes_max)};
}

/// Shared with callbacks that may outlast the wait.
struct probe {
  std::promise<std::string> verdict; // empty: the agent answered
  std::promise<void> gone;
  bool given = false; // on the loop's thread

  /// Only the first counts: a failure after ready is no news.
  void give(std::string text) {
    if (!std::exchange(given, true)) {
      verdict.set_value(std::move(text));
    }
  }
};

} // namespace

accelerator_verdict probe_accelerator(event_loop& loop, machine_options options,
                                      std::chrono::milliseconds deadline) {
  // Takes a moment the first time: better on this thread than on the one that starts a guest.
  static_cast<void>(tsc_khz());
  {
    // A jail has a device of its own, which its user may open; then only its being there counts.
    const int way = loop.jailer() != nullptr ? O_PATH : O_RDWR;
    const unique_fd device{::open("/dev/kvm", way | O_CLOEXEC)};
    if (!device) {
      return tcg_because(std::string{"cannot open /dev/kvm: "} + std::strerror(errno) +
                         (errno == EACCES ? " (add the daemon's user to the group kvm)" : ""));
    }
  }
  // That it opens proves nothing, nor does a kernel that starts: only a program that answers from
  // inside a guest does.
  options.accel = accelerator::kvm;
  options.boot_timeout = deadline;
  const auto begin = std::chrono::steady_clock::now();
  auto shared = std::make_shared<probe>();
  auto verdict = shared->verdict.get_future();
  auto gone = shared->gone.get_future();
  machine::callbacks on;
  on.on_ready = [shared](const frame<proto::FromGuest>&) {
    shared->give({});
  };
  on.on_message = [](const frame<proto::FromGuest>&) {
  };
  on.on_failed = [shared](std::string why) {
    shared->give(std::move(why));
  };
  on.on_gone = [shared](bool) {
    shared->gone.set_value();
  };
  auto vm = machine::start(loop, options, no_disk(), std::move(on));
  if (!vm) {
    return tcg_because(vm.error().text);
  }
  // The machine keeps the deadline; the margin is for a loop that is late.
  if (verdict.wait_for(deadline + end_timeout) != std::future_status::ready) {
    return tcg_because("no verdict in time");
  }
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - begin);
  (*vm)->kill();
  gone.wait_for(end_timeout);
  if (const auto why = verdict.get(); !why.empty()) {
    return tcg_because("a guest booted under it failed: " + why);
  }
  return {accelerator::kvm, "a guest booted under KVM and its agent answered after " +
                                std::to_string(took.count()) + " ms"};
}

} // namespace coppice::vmm
