#include "protocol/uuid.hpp"

#include <sys/random.h>

#include <cerrno>
#include <system_error>

namespace coppice {

namespace {

constexpr std::string_view digits = "0123456789abcdef";

int digit_value(char c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  if (c >= 'a' && c <= 'f') {
    return c - 'a' + 10;
  }
  if (c >= 'A' && c <= 'F') {
    return c - 'A' + 10;
  }
  return -1;
}

bool is_dash_position(std::size_t i) {
  return i == 8 || i == 13 || i == 18 || i == 23;
}

} // namespace

uuid uuid::random() {
  std::uint64_t words[2];
  std::size_t got = 0;
  while (got < sizeof(words)) {
    auto n = ::getrandom(reinterpret_cast<char*>(words) + got, sizeof(words) - got, 0);
    if (n < 0) {
      if (errno == EINTR) {
        continue;
      }
      throw std::system_error(errno, std::generic_category(), "getrandom");
    }
    got += static_cast<std::size_t>(n);
  }
  constexpr std::uint64_t version_mask = 0xffffffffffff0fffull;
  constexpr std::uint64_t variant_mask = 0x3fffffffffffffffull;
  return {(words[0] & version_mask) | 0x4000ull, (words[1] & variant_mask) | (1ull << 63)};
}

std::optional<uuid> uuid::parse(std::string_view text) {
  if (text.size() != 36) {
    return std::nullopt;
  }
  std::uint64_t parts[2] = {0, 0};
  std::size_t nibble = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_dash_position(i)) {
      if (text[i] != '-') {
        return std::nullopt;
      }
      continue;
    }
    int value = digit_value(text[i]);
    if (value < 0) {
      return std::nullopt;
    }
    parts[nibble / 16] = (parts[nibble / 16] << 4) | static_cast<std::uint64_t>(value);
    ++nibble;
  }
  return uuid{parts[0], parts[1]};
}

std::string uuid::text() const {
  std::string out;
  out.reserve(36);
  for (unsigned char byte : bytes()) {
    if (is_dash_position(out.size())) {
      out += '-';
    }
    out += digits[byte >> 4];
    out += digits[byte & 15];
  }
  return out;
}

std::array<unsigned char, 16> uuid::bytes() const {
  std::array<unsigned char, 16> out{};
  for (int i = 0; i < 8; ++i) {
    out[static_cast<std::size_t>(i)] = static_cast<unsigned char>(hi >> (56 - 8 * i));
    out[static_cast<std::size_t>(8 + i)] = static_cast<unsigned char>(lo >> (56 - 8 * i));
  }
  return out;
}

} // namespace coppice
