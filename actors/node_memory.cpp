#include "actors/node_memory.hpp"

#include <fstream>
#include <string>

namespace coppice {

std::uint64_t available_memory_bytes() {
  std::ifstream in{"/proc/meminfo"};
  std::string name;
  std::string unit;
  std::uint64_t kib = 0;
  while (in >> name >> kib) {
    std::getline(in, unit);
    if (name == "MemAvailable:") {
      return kib << 10;
    }
  }
  return 0;
}

} // namespace coppice
