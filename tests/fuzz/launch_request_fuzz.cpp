#include "vmm/launch_request.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>

/// Whatever a daemon that was taken over sends to the launcher.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coppice::vmm;
  if (size == 0) {
    return 0;
  }
  const std::span<const std::byte> bytes{reinterpret_cast<const std::byte*>(data + 1), size - 1};
  auto parsed = parse_launch_request(bytes, data[0]);
  if (!parsed) {
    return 0;
  }
  // There is one way to say each thing, and what is accepted is within the limits.
  auto again = encode(*parsed);
  if (!again || again->size() != bytes.size() ||
      !std::equal(again->begin(), again->end(), bytes.begin()) ||
      parsed->placements.size() != data[0] ||
      parsed->arguments.size() > launch_limits::arguments_max) {
    std::abort();
  }
  return 0;
}
