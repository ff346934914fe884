#include "actors/accelerator_choice.hpp"

#include <sys/stat.h>
#include <sys/utsname.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

namespace coppice {

namespace {

namespace fs = std::filesystem;

/// Identifies a file without reading it.
std::string identity_of(const fs::path& file) {
  struct stat s {};
  if (::stat(file.c_str(), &s) != 0) {
    return file.string() + " -";
  }
  std::ostringstream out;
  out << file.string() << ' ' << s.st_ino << ' ' << s.st_size << ' ' << s.st_mtim.tv_sec << '.'
      << s.st_mtim.tv_nsec;
  return out.str();
}

std::string first_line(const fs::path& file) {
  std::ifstream in{file};
  std::string line;
  std::getline(in, line);
  return line;
}

/// Everything that the verdict depends on, a line each.
std::string ingredients(const settings& config) {
  utsname host{};
  ::uname(&host);
  auto qemu =
      config.vm.qemu.find('/') == std::string::npos ? "/usr/bin/" + config.vm.qemu : config.vm.qemu;
  std::ostringstream out;
  out << "host " << host.release << ' ' << host.version << '\n'
      << "boot " << first_line("/proc/sys/kernel/random/boot_id") << '\n'
      << "qemu " << identity_of(qemu) << '\n'
      << "kernel " << identity_of(config.kernel_path()) << '\n'
      << "initramfs " << identity_of(config.initramfs_path()) << '\n'
      << "kvm " << identity_of("/dev/kvm") << '\n';
  return out.str();
}

std::optional<vmm::accelerator_verdict> remembered(const fs::path& file, const std::string& key) {
  std::ifstream in{file};
  std::string text{std::istreambuf_iterator<char>{in}, {}};
  auto end = text.find("verdict ");
  if (!in || end == text.npos || text.substr(0, end) != key) {
    return std::nullopt;
  }
  std::istringstream verdict{text.substr(end + 8)};
  std::string name;
  vmm::accelerator_verdict out;
  verdict >> name;
  std::getline(verdict >> std::ws, out.reason);
  if (name != "kvm" && name != "tcg") {
    return std::nullopt;
  }
  out.accel = name == "kvm" ? vmm::accelerator::kvm : vmm::accelerator::tcg;
  return out;
}

void remember(const fs::path& file, const std::string& key,
              const vmm::accelerator_verdict& verdict) {
  // A file that is cut off does not match its key and is ignored: no need for more care.
  std::ofstream out{file, std::ios::trunc};
  auto reason = verdict.reason;
  std::replace(reason.begin(), reason.end(), '\n', ' ');
  out << key << "verdict " << vmm::to_string(verdict.accel) << ' ' << reason << '\n';
}

} // namespace

vmm::machine_options machine_options_of(const settings& config) {
  vmm::machine_options out;
  out.qemu = config.vm.qemu;
  out.kernel = config.kernel_path();
  out.initramfs = config.initramfs_path();
  out.memory_mib = config.vm.memory_mib;
  out.cpus = config.vm.cpus;
  out.boot_timeout = config.vm.boot_timeout;
  return out;
}

result<vmm::accelerator_verdict> choose_accelerator(const settings& config, vmm::event_loop& loop) {
  if (config.vm.accelerator == "tcg") {
    return vmm::accelerator_verdict{vmm::accelerator::tcg, "configured (vm.accelerator = tcg)"};
  }
  auto file = config.state_dir / "accelerator";
  auto key = ingredients(config);
  auto verdict = remembered(file, key);
  if (!verdict) {
    verdict = vmm::probe_accelerator(loop, machine_options_of(config), config.vm.probe_timeout);
    remember(file, key, *verdict);
  }
  if (config.vm.accelerator == "kvm" && verdict->accel != vmm::accelerator::kvm) {
    return fail(vmm::ec::missing,
                "vm.accelerator is kvm, but KVM cannot run a guest here: " + verdict->reason +
                    " (set vm.accelerator to auto or tcg, or mend KVM)");
  }
  return *verdict;
}

} // namespace coppice
