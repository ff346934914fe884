#pragma once

#include "vmm/unique_fd.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Messages between the daemon and the launcher: one packet each, with descriptors.
namespace coppice::vmm {

inline constexpr int launcher_socket_number = 3;

/// The launcher's answers, the greeting at its start included.
struct launch_answer {
  std::int32_t pid; ///< -1: refused, and text says why
  char text[1020];  ///< ends with a zero byte
};

struct received {
  std::vector<std::byte> bytes;
  std::vector<unique_fd> descriptors;
  bool is_whole = false; ///< false: more came than there is room for
};

enum class receipt { message, end, failure };

/// Waits for one packet of at most `bytes_max`. Descriptors that do not belong to a whole message
/// are closed.
receipt receive(int socket, std::size_t bytes_max, received& out);

/// False: errno says why.
bool send_packet(int socket, std::span<const std::byte> bytes, std::span<const int> descriptors);

launch_answer make_answer(std::int32_t pid, std::string_view text);

} // namespace coppice::vmm
