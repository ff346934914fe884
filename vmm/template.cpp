#include "vmm/template.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

namespace coppice::vmm {

namespace {

constexpr int all_seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
/// Without the memory the state of all devices is some 60 KB.
constexpr std::int64_t state_bytes_max = 16 << 20;

failure file_failure(const char* doing) {
  return fail(ec::io, std::string{doing} + " a template's memory file: " + std::strerror(errno));
}

result<void> seal(const unique_fd& file) {
  const int have = ::fcntl(file.get(), F_GET_SEALS);
  if (have < 0) {
    return file_failure("looking at");
  }
  if ((have & all_seals) != all_seals && ::fcntl(file.get(), F_ADD_SEALS, all_seals) != 0) {
    return file_failure("sealing");
  }
  return {};
}

result<struct stat> look_at(const unique_fd& file) {
  struct stat out {};
  if (::fstat(file.get(), &out) != 0) {
    return file_failure("looking at");
  }
  return out;
}

/// Opened anew: an offset of its own, and no right to write.
result<unique_fd> open_again(const unique_fd& file) {
  unique_fd out{
      ::open(("/proc/self/fd/" + std::to_string(file.get())).c_str(), O_RDONLY | O_CLOEXEC)};
  if (!out) {
    return file_failure("opening");
  }
  return out;
}

} // namespace

result<std::shared_ptr<const vm_template>> vm_template::make(parts from) {
  auto ram = look_at(from.ram);
  auto state = look_at(from.state);
  if (!ram || !state) {
    return ram ? state.error() : ram.error();
  }
  if (static_cast<std::uint64_t>(ram->st_size) != std::uint64_t{from.ingredients.memory_mib}
                                                      << 20 ||
      state->st_size <= 0 || state->st_size > state_bytes_max) {
    return fail(ec::stale, "a template of " + std::to_string(ram->st_size) +
                               " bytes of memory and " + std::to_string(state->st_size) +
                               " bytes of state cannot be");
  }
  for (const auto* file : {&from.ram, &from.state}) {
    if (auto sealed = seal(*file); !sealed) {
      return sealed.error();
    }
  }
  const auto key = key_of(from.ingredients);
  return std::shared_ptr<const vm_template>{new vm_template{std::move(from), key}};
}

result<unique_fd> vm_template::open_ram() const {
  return open_again(parts_.ram);
}

result<unique_fd> vm_template::open_state() const {
  return open_again(parts_.state);
}

std::uint64_t vm_template::ram_bytes() const {
  return std::uint64_t{parts_.ingredients.memory_mib} << 20;
}

std::uint64_t vm_template::ram_allocated_bytes() const {
  constexpr std::uint64_t block_bytes = 512; // stat(2)
  auto st = look_at(parts_.ram);
  return st ? static_cast<std::uint64_t>(st->st_blocks) * block_bytes : 0;
}

std::uint64_t vm_template::state_bytes() const {
  auto st = look_at(parts_.state);
  return st ? static_cast<std::uint64_t>(st->st_size) : 0;
}

} // namespace coppice::vmm
