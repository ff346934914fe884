#pragma once

#include <string>

namespace coppice::test {

/// Whether the text of /metrics has exactly this line.
inline bool has_line(const std::string& text, const std::string& line) {
  return ('\n' + text).find('\n' + line + '\n') != std::string::npos;
}

} // namespace coppice::test
