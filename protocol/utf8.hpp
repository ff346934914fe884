#pragma once

#include <cstddef>
#include <string_view>

namespace coppice {

/// Bytes of the well-formed character that `text` begins with (RFC 3629, table 3-7 of Unicode);
/// 0: it begins with none.
std::size_t utf8_character_bytes(std::string_view text);

/// Whether the text is whole characters of UTF-8.
bool is_utf8(std::string_view text);

} // namespace coppice
