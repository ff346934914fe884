#include "vmm/launcher_wire.hpp"

#include "vmm/launch_request.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace coppice::vmm {

namespace {

constexpr std::size_t descriptor_room = CMSG_SPACE(sizeof(int) * launch_limits::descriptors_max);

} // namespace

receipt receive(int socket, std::size_t bytes_max, received& out) {
  out = {};
  out.bytes.resize(bytes_max);
  alignas(cmsghdr) char control[descriptor_room] = {};
  iovec piece{out.bytes.data(), out.bytes.size()};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  ssize_t n = 0;
  do {
    n = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  if (n < 0) {
    return receipt::failure;
  }
  for (auto* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS) {
      const auto count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(fd));
        out.descriptors.emplace_back(fd);
      }
    }
  }
  // No message of ours is empty.
  if (n == 0) {
    return receipt::end;
  }
  out.bytes.resize(static_cast<std::size_t>(n));
  out.is_whole = (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
  if (!out.is_whole) {
    out.descriptors.clear();
  }
  return receipt::message;
}

bool send_packet(int socket, std::span<const std::byte> bytes, std::span<const int> descriptors) {
  alignas(cmsghdr) char control[descriptor_room] = {};
  iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  if (!descriptors.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    auto* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(part), descriptors.data(), descriptors.size_bytes());
  }
  ssize_t n = 0;
  do {
    n = ::sendmsg(socket, &header, MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  return n == static_cast<ssize_t>(bytes.size());
}

launch_answer make_answer(std::int32_t pid, std::string_view text) {
  launch_answer out{};
  out.pid = pid;
  text.copy(out.text, sizeof(out.text) - 1);
  return out;
}

} // namespace coppice::vmm
