#include "vmm/guest_protocol.hpp"

#include <cstdint>
#include <cstdlib>

/// Whatever a guest writes on its channel: taken frame by frame as the host does.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coppice::vmm;
  std::span<const std::byte> stream{reinterpret_cast<const std::byte*>(data), size};
  for (;;) {
    auto out = parse_guest_frame(stream);
    if (out.status != parse_status::complete) {
      // A refusal has a reason and delivers nothing.
      if (!out.message.empty() || (out.status == parse_status::refused && out.reason.empty())) {
        std::abort();
      }
      return 0;
    }
    if (out.bytes_taken <= frame_header_bytes || out.bytes_taken > stream.size() ||
        !objection_to(out.message).empty()) {
      std::abort();
    }
    stream = stream.subspan(out.bytes_taken);
  }
}
