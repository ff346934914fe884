#include "storage/frame_stream.hpp"

#include "protocol/limits.hpp"
#include "storage/error.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>

namespace coppice::storage {

namespace {

static_assert(std::endian::native == std::endian::little);

using clock = std::chrono::steady_clock;

/// Waits until the socket has bytes, or room for some: until it does not block.
result<void> wait_for(int socket, short events, frame_deadline deadline) {
  while (deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - clock::now());
    if (left.count() <= 0) {
      return fail(ec::busy, "a frame took its peer too long");
    }
    pollfd waiting{socket, events, 0};
    const auto ready =
        ::poll(&waiting, 1, static_cast<int>(std::min<std::int64_t>(left.count(), INT32_MAX)));
    if (ready > 0) {
      break;
    }
    if (ready < 0 && errno != EINTR) {
      return io_failure(errno, "waiting for a frame");
    }
  }
  return {};
}

/// Reads until `out` is full or the peer closes; gives how many bytes.
result<std::size_t> receive(int socket, std::span<std::byte> out, frame_deadline deadline) {
  std::size_t done = 0;
  while (done < out.size()) {
    if (auto ready = wait_for(socket, POLLIN, deadline); !ready) {
      return ready.error();
    }
    auto count = ::read(socket, out.data() + done, out.size() - done);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return io_failure(errno, "reading a frame");
    }
    if (count == 0) {
      break;
    }
    done += static_cast<std::size_t>(count);
  }
  return done;
}

result<void> send_all(int socket, std::span<const std::byte> data, int flags,
                      frame_deadline deadline) {
  if (deadline) {
    flags |= MSG_DONTWAIT; // where there is room for some, there may be none for all
  }
  while (!data.empty()) {
    if (auto ready = wait_for(socket, POLLOUT, deadline); !ready) {
      return ready;
    }
    auto count = ::send(socket, data.data(), data.size(), MSG_NOSIGNAL | flags);
    if (count < 0 && errno == ENOTSOCK) {
      count = ::write(socket, data.data(), data.size()); // an answer that is left in a file
    }
    if (count < 0 && (errno == EINTR || (deadline && errno == EAGAIN))) {
      continue;
    }
    if (count < 0) {
      return io_failure(errno, "writing a frame");
    }
    data = data.subspan(static_cast<std::size_t>(count));
  }
  return {};
}

} // namespace

result<std::optional<std::vector<std::byte>>> read_frame(int socket, frame_deadline deadline) {
  std::array<std::byte, 4> head{};
  auto head_bytes = receive(socket, head, deadline);
  if (!head_bytes) {
    return head_bytes.error();
  }
  if (*head_bytes == 0) {
    return std::optional<std::vector<std::byte>>{};
  }
  std::uint32_t words = 0;
  std::memcpy(&words, head.data(), sizeof words);
  const auto bytes = std::uint64_t{words} * sizeof(capnp::word);
  if (bytes > limits::channel_frame_bytes_max) {
    return fail(ec::too_large, "frame of " + std::to_string(bytes) + " bytes");
  }
  std::vector<std::byte> body(static_cast<std::size_t>(bytes));
  auto body_bytes =
      *head_bytes == head.size() ? receive(socket, body, deadline) : result<std::size_t>{0u};
  if (!body_bytes) {
    return body_bytes.error();
  }
  if (*head_bytes != head.size() || *body_bytes != body.size()) {
    return fail(ec::damaged, "the peer closed inside a frame");
  }
  return std::optional{std::move(body)};
}

result<void> write_frame(int socket, const frame_base& message, frame_deadline deadline) {
  const auto body = message.bytes();
  if (body.size() > limits::channel_frame_bytes_max) {
    return fail(ec::too_large, "frame of " + std::to_string(body.size()) + " bytes");
  }
  const auto words = static_cast<std::uint32_t>(body.size() / sizeof(capnp::word));
  const auto head = std::as_bytes(std::span{&words, 1});
  if (auto sent = send_all(socket, head, MSG_MORE, deadline); !sent) {
    return sent;
  }
  return send_all(socket, body, 0, deadline);
}

} // namespace coppice::storage
