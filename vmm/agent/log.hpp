#pragma once

#include <string>

#include <unistd.h>

namespace coppice::agent {

/// One line on the guest's console, which the host keeps for the error of a guest that dies.
inline void log_line(const std::string& words) {
  auto line = "coppice-agent: " + words + "\n";
  static_cast<void>(::write(STDERR_FILENO, line.data(), line.size()) < 0);
}

} // namespace coppice::agent
