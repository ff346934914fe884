#include "protocol/ordered_uuid.hpp"

#include <algorithm>

namespace coppice {

uuid ordered_uuid(std::int64_t unix_ns) {
  constexpr std::uint64_t ns_per_ms = 1'000'000;
  constexpr std::uint64_t ms_mask = (1ull << 48) - 1;
  const auto since_epoch = static_cast<std::uint64_t>(std::max<std::int64_t>(unix_ns, 0));
  const auto ms = since_epoch / ns_per_ms & ms_mask;
  const auto fraction = since_epoch % ns_per_ms * 4096 / ns_per_ms; // 12 bits
  return {ms << 16 | 0x7000ull | fraction, uuid::random().lo};
}

} // namespace coppice
