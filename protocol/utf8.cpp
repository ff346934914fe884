#include "protocol/utf8.hpp"

namespace coppice {

namespace {

unsigned byte_at(std::string_view text, std::size_t index) {
  return index < text.size() ? static_cast<unsigned char>(text[index]) : 0u;
}

bool is_continuation(unsigned byte) {
  return (byte & 0xC0u) == 0x80u;
}

} // namespace

std::size_t utf8_character_bytes(std::string_view text) {
  unsigned first = byte_at(text, 0);
  unsigned second = byte_at(text, 1);
  if (first < 0x80u) {
    return 1;
  }
  if (first >= 0xC2u && first <= 0xDFu) {
    return is_continuation(second) ? 2 : 0;
  }
  if (first >= 0xE0u && first <= 0xEFu) {
    unsigned low = first == 0xE0u ? 0xA0u : 0x80u;
    unsigned high = first == 0xEDu ? 0x9Fu : 0xBFu;
    return second >= low && second <= high && is_continuation(byte_at(text, 2)) ? 3 : 0;
  }
  if (first >= 0xF0u && first <= 0xF4u) {
    unsigned low = first == 0xF0u ? 0x90u : 0x80u;
    unsigned high = first == 0xF4u ? 0x8Fu : 0xBFu;
    return second >= low && second <= high && is_continuation(byte_at(text, 2)) &&
                   is_continuation(byte_at(text, 3))
               ? 4
               : 0;
  }
  return 0;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const auto bytes = utf8_character_bytes(text);
    if (bytes == 0) {
      return false;
    }
    text.remove_prefix(bytes);
  }
  return true;
}

} // namespace coppice
