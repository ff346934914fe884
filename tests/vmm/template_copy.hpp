#pragma once

#include "vmm/template.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>
#include <vector>

namespace coppice::tests {

inline vmm::unique_fd memory_file(const char* name, std::uint64_t bytes) {
  vmm::unique_fd out{::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  if (!out || ::ftruncate(out.get(), static_cast<off_t>(bytes)) != 0) {
    throw std::runtime_error{"making a memory file"};
  }
  return out;
}

/// What a guest runs in that was restored from a template and becomes another: a copy of the
/// template's memory, of which only the used parts are written, and room for the state.
inline vmm::vm_template::parts copy_of(const vmm::vm_template& from) {
  vmm::vm_template::parts out;
  out.ingredients = from.ingredients();
  out.ready = from.ready();
  out.ram = memory_file("ram", from.ram_bytes());
  out.state = memory_file("state", 0);
  auto ram = from.open_ram();
  if (!ram) {
    throw std::runtime_error{ram.error().text};
  }
  std::vector<char> piece(1u << 20);
  for (off_t at = ::lseek(ram->get(), 0, SEEK_DATA); at >= 0;
       at = ::lseek(ram->get(), at, SEEK_DATA)) {
    const off_t hole = ::lseek(ram->get(), at, SEEK_HOLE);
    while (at < hole) {
      const auto n = ::pread(ram->get(), piece.data(),
                             std::min(piece.size(), static_cast<std::size_t>(hole - at)), at);
      if (n <= 0 || ::pwrite(out.ram.get(), piece.data(), static_cast<std::size_t>(n), at) != n) {
        throw std::runtime_error{"copying a template's memory"};
      }
      at += n;
    }
  }
  return out;
}

} // namespace coppice::tests
