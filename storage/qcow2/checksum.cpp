#include "storage/qcow2/checksum.hpp"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace coppice::storage::qcow2 {

namespace {

constexpr std::uint32_t polynomial = 0x82f63b78; // bits reversed
constexpr std::size_t word_bytes = 8;

/// [k][b]: what the byte b becomes when k more bytes of zeros follow it.
using slices = std::array<std::array<std::uint32_t, 256>, word_bytes>;

constexpr slices make_slices() {
  slices out{};
  for (std::uint32_t b = 0; b < 256; ++b) {
    auto value = b;
    for (int bit = 0; bit < 8; ++bit) {
      value = value >> 1 ^ ((value & 1) != 0 ? polynomial : 0);
    }
    out[0][b] = value;
  }
  for (std::size_t k = 1; k < word_bytes; ++k) {
    for (std::size_t b = 0; b < 256; ++b) {
      auto before = out[k - 1][b];
      out[k][b] = before >> 8 ^ out[0][before & 0xff];
    }
  }
  return out;
}

constexpr slices table = make_slices();

#if defined(__x86_64__)

__attribute__((target("sse4.2"))) std::uint32_t
checksum_by_instruction(std::span<const std::byte> bytes) {
  std::uint64_t value = 0xffffffff;
  const auto* at = bytes.data();
  auto left = bytes.size();
  for (; left >= word_bytes; left -= word_bytes, at += word_bytes) {
    std::uint64_t word = 0;
    std::memcpy(&word, at, word_bytes);
    value = _mm_crc32_u64(value, word);
  }
  auto rest = static_cast<std::uint32_t>(value);
  for (; left > 0; --left, ++at) {
    rest = _mm_crc32_u8(rest, static_cast<std::uint8_t>(*at));
  }
  return ~rest;
}

#endif

} // namespace

std::uint32_t checksum_by_tables(std::span<const std::byte> bytes) {
  std::uint32_t value = 0xffffffff;
  std::size_t at = 0;
  auto byte = [&](std::size_t i) {
    return static_cast<std::uint32_t>(bytes[at + i]);
  };
  for (; bytes.size() - at >= word_bytes; at += word_bytes) {
    auto first = value ^ (byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24);
    value = table[7][first & 0xff] ^ table[6][first >> 8 & 0xff] ^ table[5][first >> 16 & 0xff] ^
            table[4][first >> 24] ^ table[3][byte(4)] ^ table[2][byte(5)] ^ table[1][byte(6)] ^
            table[0][byte(7)];
  }
  for (; at < bytes.size(); ++at) {
    value = value >> 8 ^ table[0][(value ^ byte(0)) & 0xff];
  }
  return ~value;
}

std::uint32_t checksum(std::span<const std::byte> bytes) {
#if defined(__x86_64__)
  static const bool has_instruction = __builtin_cpu_supports("sse4.2") != 0;
  if (has_instruction) {
    return checksum_by_instruction(bytes);
  }
#endif
  return checksum_by_tables(bytes);
}

} // namespace coppice::storage::qcow2
