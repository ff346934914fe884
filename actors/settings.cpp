#include "actors/settings.hpp"

#include <algorithm>
#include <system_error>

namespace coppice {
namespace {

/// The build puts the guest's files beside the program, and so does an installation.
std::filesystem::path beside_program(const char* name) {
  std::error_code error;
  auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  return (error ? std::filesystem::path{"."} : program.parent_path()) / "guest" / name;
}

} // namespace

std::vector<machine_class> settings::classes() const {
  auto all = vm.classes;
  all.push_back(default_class());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

std::filesystem::path settings::kernel_path() const {
  return vm.kernel.empty() ? beside_program("vmlinux") : vm.kernel;
}

std::filesystem::path settings::initramfs_path() const {
  return vm.initramfs.empty() ? kernel_path().parent_path() / "initramfs.cpio" : vm.initramfs;
}

} // namespace coppice
