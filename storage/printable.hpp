#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace coppice::storage {

/// Names from images and archives inside messages: a hostile one must neither forge a second log
/// line nor fill it. Quoted; control, non-ASCII and quoting bytes as \xNN; at most 200 bytes shown.
inline std::string printable(std::string_view text) {
  constexpr std::size_t shown_max = 200;
  constexpr char digits[] = "0123456789abcdef";
  std::string out = "\"";
  for (char character : text.substr(0, shown_max)) {
    const auto c = static_cast<unsigned char>(character);
    if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
      out += character;
    } else {
      out += "\\x";
      out += digits[c >> 4];
      out += digits[c & 15];
    }
  }
  out += text.size() > shown_max ? "…\"" : "\"";
  return out;
}

} // namespace coppice::storage
