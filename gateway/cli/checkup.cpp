#include "gateway/cli/checkup.hpp"

#include "actors/accelerator_choice.hpp"
#include "actors/node_capacity.hpp"
#include "gateway/cli/captured.hpp"
#include "gateway/cli/lists.hpp"
#include "gateway/cli/units.hpp"
#include "vmm/event_loop.hpp"
#include "vmm/machine.hpp"

#include <linux/io_uring.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>
#include <thread>

namespace coppice::cli {
namespace {

constexpr std::chrono::milliseconds version_deadline{10'000};

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

/// The value of `KEY=` or `KEY:` in a file of such lines; empty if it is not there.
std::string value_in(const char* file, std::string_view key) {
  std::ifstream lines{file};
  std::string line;
  while (std::getline(lines, line)) {
    if (line.starts_with(key)) {
      auto first = line.find_first_not_of(" =:\"\t", key.size());
      auto last = line.find_last_not_of(" \"");
      return first == line.npos ? std::string{} : line.substr(first, last - first + 1);
    }
  }
  return {};
}

unsigned core_count() {
  return std::max(1u, std::thread::hardware_concurrency());
}

/// The accelerator that gives most, where it is not known before a guest has booted.
vmm::accelerator optimistic(const settings& values) {
  return values.vm.accelerator == "tcg" ? vmm::accelerator::tcg : vmm::accelerator::kvm;
}

/// Whether a process may make a pid namespace, tried in a child so that this one keeps its own.
bool may_make_pid_namespaces() {
  pid_t child = ::fork();
  if (child == 0) {
    ::_exit(::unshare(CLONE_NEWPID) == 0 ? 0 : 1);
  }
  int status = 1;
  return child > 0 && ::waitpid(child, &status, 0) == child && status == 0;
}

} // namespace

finding check_system() {
  utsname name{};
  ::uname(&name);
  auto distribution = value_in("/etc/os-release", "PRETTY_NAME");
  auto text = distribution + ", Linux " + name.release + ", " + name.machine;
  if (std::string_view{name.machine} != "x86_64") {
    return {verdict::fail, "system", text, "use an x86_64 machine: the guests are x86_64"};
  }
  if (value_in("/etc/os-release", "ID") != "debian" ||
      value_in("/etc/os-release", "VERSION_ID") != "12") {
    return {verdict::warn, "system", text,
            "built and tested for Debian 12; other systems may work"};
  }
  return {verdict::ok, "system", text, ""};
}

finding check_processors(const settings& values) {
  auto running = values.vm.running_max;
  auto text = std::to_string(core_count()) + " cores; microVMs at once: " +
              (running == 0 ? "by the accelerator, see below" : std::to_string(running));
  return {verdict::ok, "processors", text, ""};
}

finding check_memory(const settings& values) {
  std::uint64_t available_kib = 0;
  try {
    available_kib = std::stoull(value_in("/proc/meminfo", "MemAvailable"));
  } catch (const std::exception&) {
    return {verdict::warn, "memory", "cannot read MemAvailable from /proc/meminfo", "mount /proc"};
  }
  auto given = capacity_of(values, optimistic(values), size_of_this_node());
  auto each_mib = std::uint64_t{values.vm.memory_mib} + vm_overhead_mib;
  // As many as may be; beside them the daemon and its helpers.
  auto wanted = values.vm.running_max == 0 ? core_count() : values.vm.running_max;
  auto running = std::min({std::uint64_t{wanted}, std::uint64_t{given.cpus / values.vm.cpus},
                           given.memory_mib / each_mib});
  auto needed_mib = running * each_mib + 256;
  auto text = human_size(available_kib << 10) + " available, " +
              human_size(given.memory_mib << 20) + " for microVMs; " + std::to_string(running) +
              " of " + std::to_string(values.vm.memory_mib) + " MiB need up to " +
              human_size(needed_mib << 20);
  if (available_kib / 1024 < needed_mib) {
    return {verdict::warn, "memory", text,
            "lower vm.memory_bytes_max, vm.running_max or vm.memory_mib"};
  }
  return {verdict::ok, "memory", text, ""};
}

finding check_classes(const settings& values) {
  auto given = capacity_of(values, optimistic(values), size_of_this_node());
  std::vector<machine_class> fitting;
  std::vector<machine_class> too_large;
  for (const auto& c : values.classes()) {
    (given.has_room_for(c) ? fitting : too_large).push_back(c);
  }
  auto text = text_of_classes(fitting) + " (processors:MiB)";
  if (!too_large.empty()) {
    return {verdict::warn, "classes",
            text + "; too large for this machine, runs that ask for them are refused: " +
                text_of_classes(too_large),
            "take them out of vm.classes, or raise vm.cpus_max or vm.memory_bytes_max"};
  }
  return {verdict::ok, "classes", text, ""};
}

finding check_rights() {
  auto user = "user id " + std::to_string(::geteuid());
  if (may_make_pid_namespaces()) {
    return {verdict::ok, "rights", user + ", may make pid namespaces", ""};
  }
  return {verdict::warn, "rights",
          user + ", may not make pid namespaces: helper processes are ended by process group",
          "run the daemon as root, or with CAP_SYS_ADMIN"};
}

finding check_qemu(const settings& values) {
  auto run = capture({values.vm.qemu, "--version"}, version_deadline);
  auto remedy = "apt-get install qemu-system-x86, or set vm.qemu";
  if (!run.was_started || run.exit_code != 0) {
    return {verdict::fail, "qemu", values.vm.qemu + ": " + first_line(run.output), remedy};
  }
  auto machines = capture({values.vm.qemu, "-machine", "help"}, version_deadline);
  if (machines.output.find("microvm") == std::string::npos) {
    return {verdict::fail, "qemu", first_line(run.output) + " has no machine type microvm", remedy};
  }
  return {verdict::ok, "qemu", first_line(run.output), ""};
}

finding check_guest_files(const settings& values) {
  for (const auto& file : {values.kernel_path(), values.initramfs_path()}) {
    if (::access(file.c_str(), R_OK) != 0) {
      return {verdict::fail, "guest", file.string() + ": " + std::strerror(errno),
              "build the target 'guest' (configs/quickstart.sh does), or set vm.kernel and "
              "vm.initramfs"};
    }
  }
  auto release = value_in((values.kernel_path().parent_path() / "kernel.release").c_str(), "");
  return {verdict::ok, "guest",
          values.kernel_path().string() + (release.empty() ? "" : " (" + release + ")") + ", " +
              values.initramfs_path().string(),
          ""};
}

finding check_helpers(const settings& values) {
  auto skopeo = capture({values.import.skopeo, "--version"}, version_deadline);
  if (!skopeo.was_started || skopeo.exit_code != 0) {
    return {verdict::warn, "skopeo",
            values.import.skopeo + ": " + first_line(skopeo.output) +
                "; images cannot be fetched from registries",
            "apt-get install skopeo, or set import.skopeo"};
  }
  return {verdict::ok, "skopeo", first_line(skopeo.output), ""};
}

finding check_io_uring() {
  io_uring_params parameters{};
  auto ring = static_cast<int>(::syscall(SYS_io_uring_setup, 4u, &parameters));
  if (ring < 0) {
    return {verdict::warn, "io_uring", std::string{"not available: "} + std::strerror(errno),
            "sysctl kernel.io_uring_disabled=0, or allow it in the container's seccomp profile; "
            "this version works without it"};
  }
  ::close(ring);
  return {verdict::ok, "io_uring", "available", ""};
}

finding check_accelerator(const settings& values) {
  vmm::event_loop loop;
  auto found = choose_accelerator(values, loop);
  if (!found) {
    return {verdict::fail, "accelerator", found.error().text,
            "set vm.accelerator = auto, or make KVM work"};
  }
  auto text = std::string{vmm::to_string(found->accel)} + ": " + found->reason;
  if (found->accel == vmm::accelerator::kvm) {
    return {verdict::ok, "accelerator", text, ""};
  }
  return {verdict::warn, "accelerator",
          text + "; commands run slowly and QEMU promises no security boundary",
          "use a machine with KVM (bare metal, or nested virtualisation that works)"};
}

} // namespace coppice::cli
