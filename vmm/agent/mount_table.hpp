#pragma once

#include "vmm/agent/descriptor.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace coppice::agent {

/// One line of /proc/self/mountinfo (proc(5)).
struct mount_entry {
  unsigned id = 0;
  unsigned device_major = 0;
  unsigned device_minor = 0;
  std::string target; ///< unescaped
};

/// Lines that are not of the documented form are left out, as is a last line without an end.
std::vector<mount_entry> parse_mountinfo(std::string_view text);

/// The \ooo escapes of the kernel's tables (space, tab, newline, backslash, '#').
std::string unescape_mount_path(std::string_view text);

/// Swap files and devices in the text of /proc/swaps.
std::vector<std::string> parse_swaps(std::string_view text);

/// At most `bytes_max` bytes of a file, from its start; empty when it cannot be read.
std::string read_start_of(int fd, std::size_t bytes_max);

} // namespace coppice::agent
