#include "vmm/event_loop.hpp"
#include "vmm/machine.hpp"

#include <chrono>
#include <cstdio>
#include <fstream>
#include <future>
#include <string>

/// Boots the packaged guest once without a disk and writes the milliseconds to the agent's answer
/// to a file: the unit of patience of the tests that follow.
int main(int argc, char** argv) {
  using namespace coppice;
  if (argc > 1 && std::string{argv[1]} == "guard") {
    return vmm::guard_main(argc, argv); // children are started through this same program
  }
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s KERNEL INITRAMFS FILE\n", argv[0]);
    return 2;
  }
  vmm::event_loop loop;
  vmm::machine_options options;
  options.kernel = argv[1];
  options.initramfs = argv[2];
  options.boot_timeout = std::chrono::minutes{5};
  auto disk = vmm::disk_attachment{
      "driver=null-co,node-name=d0,size=" + std::to_string(limits::disk_bytes) + ",read-zeroes=on",
      {},
      {}};
  std::promise<std::string> answered;
  std::promise<void> gone;
  vmm::machine::callbacks on;
  on.on_ready = [&](const frame<proto::FromGuest>&) {
    answered.set_value({});
  };
  on.on_message = [](const frame<proto::FromGuest>&) {
    // a guest without orders says nothing
  };
  on.on_failed = [&](const std::string& why) {
    answered.set_value(why);
  };
  on.on_gone = [&](bool) {
    gone.set_value();
  };
  const auto start = std::chrono::steady_clock::now();
  auto machine = vmm::machine::start(loop, options, std::move(disk), std::move(on));
  if (machine.has_error()) {
    std::fprintf(stderr, "%s\n", machine.error().text.c_str());
    return 1;
  }
  const auto why = answered.get_future().get();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                      std::chrono::steady_clock::now() - start)
                      .count();
  (*machine)->kill();
  gone.get_future().wait();
  if (!why.empty()) {
    std::fprintf(stderr, "%s\n", why.c_str());
    return 1;
  }
  std::ofstream{argv[3]} << ms << '\n';
  std::printf("a boot takes %lld ms\n", static_cast<long long>(ms));
  return 0;
}
