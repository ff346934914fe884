#include "vmm/agent/oom_counter.hpp"

#include <array>
#include <charconv>

#include <fcntl.h>

namespace coppice::agent {

std::optional<std::uint64_t> parse_oom_kills(std::string_view text) {
  constexpr std::string_view name = "oom_kill ";
  while (!text.empty()) {
    auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(line.size() < text.size() ? line.size() + 1 : line.size());
    if (!line.starts_with(name)) {
      continue;
    }
    line.remove_prefix(name.size());
    std::uint64_t value = 0;
    auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
    if (error == std::errc{} && end == line.data() + line.size()) {
      return value;
    }
  }
  return std::nullopt;
}

oom_counter::oom_counter()
    : oom_counter{descriptor{::open("/proc/vmstat", O_RDONLY | O_CLOEXEC)}} {}

oom_counter::oom_counter(descriptor counters) : counters_{std::move(counters)}, taken_{read()} {}

std::optional<std::uint64_t> oom_counter::read() const {
  std::array<char, 32768> text{}; // 180 lines or so
  std::size_t size = 0;
  while (counters_ && size < text.size()) {
    auto got =
        ::pread(counters_.get(), text.data() + size, text.size() - size, static_cast<off_t>(size));
    if (got <= 0) {
      break;
    }
    size += static_cast<std::size_t>(got);
  }
  return parse_oom_kills({text.data(), size});
}

bool oom_counter::take_one() {
  const auto now = read();
  const bool has_one = now && taken_ && *now > *taken_;
  if (has_one) {
    ++*taken_;
  }
  return has_one;
}

} // namespace coppice::agent
