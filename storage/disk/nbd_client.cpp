#include "storage/disk/nbd_client.hpp"

#include "storage/disk/extent.hpp"
#include "storage/disk/nbd_handshake.hpp"
#include "storage/error.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

namespace coppice::storage {

namespace {

constexpr std::string_view export_name = "disk";

/// Beside the answers that we can use; a longer one is not our server's.
constexpr std::uint32_t option_reply_bytes_max = 4096;
constexpr int option_replies_max = 16;

/// So that a long read holds little.
constexpr std::uint64_t piece_bytes_max = 1u << 20;

failure broken(const std::string& what) {
  return fail(ec::io, "the disk server " + what);
}

} // namespace

result<std::unique_ptr<nbd_client>> nbd_client::connect(int socket) {
  std::unique_ptr<nbd_client> made{new nbd_client{socket}};
  if (auto done = made->shake_hands(); done.has_error()) {
    return done.error();
  }
  return made;
}

nbd_client::~nbd_client() {
  ::close(socket_);
}

result<void> nbd_client::send(std::span<const std::byte> data) {
  while (!data.empty()) {
    auto n = ::send(socket_, data.data(), data.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return io_failure(errno, "cannot send to the disk server");
    }
    data = data.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

result<void> nbd_client::receive(std::span<std::byte> out) {
  while (!out.empty()) {
    auto n = ::recv(socket_, out.data(), out.size(), 0);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return io_failure(errno, "cannot receive from the disk server");
    }
    if (n == 0) {
      return broken("closed the connection");
    }
    out = out.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

result<void> nbd_client::shake_hands() {
  std::array<std::byte, nbd::greeting_bytes> hello{};
  if (auto got = receive(hello); got.has_error()) {
    return got;
  }
  if (load_be<std::uint64_t>(hello, 0) != nbd::init_magic ||
      load_be<std::uint64_t>(hello, 8) != nbd::option_magic) {
    return broken("is none");
  }
  // Client flags, then one option: NBD_OPT_GO with the name and no wish for information.
  constexpr std::uint32_t data_bytes = 4 + export_name.size() + 2;
  std::array<std::byte, 4 + 16 + data_bytes> out{};
  store_be<std::uint32_t>(out, 0, nbd::flag_fixed_newstyle | nbd::flag_no_zeroes);
  store_be<std::uint64_t>(out, 4, nbd::option_magic);
  store_be<std::uint32_t>(out, 12, static_cast<std::uint32_t>(nbd::option::go));
  store_be<std::uint32_t>(out, 16, data_bytes);
  store_be<std::uint32_t>(out, 20, static_cast<std::uint32_t>(export_name.size()));
  std::transform(export_name.begin(), export_name.end(), out.begin() + 24,
                 [](char c) { return static_cast<std::byte>(c); });
  if (auto sent = send(out); sent.has_error()) {
    return sent;
  }
  for (int replies = 0; replies < option_replies_max; ++replies) {
    std::array<std::byte, 20> head{};
    if (auto got = receive(head); got.has_error()) {
      return got;
    }
    auto type = load_be<std::uint32_t>(head, 12);
    auto length = load_be<std::uint32_t>(head, 16);
    if (load_be<std::uint64_t>(head, 0) != nbd::option_reply_magic ||
        length > option_reply_bytes_max) {
      return broken("broke the protocol");
    }
    std::vector<std::byte> data(length);
    if (auto got = receive(data); got.has_error()) {
      return got;
    }
    if (type == static_cast<std::uint32_t>(nbd::option_reply::ack)) {
      return size_bytes_ > 0 ? result<void>{} : result<void>{broken("did not say its size")};
    }
    if (type != static_cast<std::uint32_t>(nbd::option_reply::info)) {
      return broken("refuses the disk");
    }
    if (length >= 10 && load_be<std::uint16_t>(data, 0) == nbd::info_export) {
      size_bytes_ = load_be<std::uint64_t>(data, 2);
    }
  }
  return broken("does not end its answer");
}

result<void> nbd_client::ask(std::uint16_t command, std::uint64_t offset_bytes,
                             std::uint32_t length_bytes, std::span<const std::byte> payload) {
  std::array<std::byte, nbd::request_bytes> head{};
  store_be<std::uint32_t>(head, 0, nbd::request_magic);
  store_be<std::uint16_t>(head, 6, command);
  store_be<std::uint64_t>(head, 8, ++cookie_);
  store_be<std::uint64_t>(head, 16, offset_bytes);
  store_be<std::uint32_t>(head, 24, length_bytes);
  if (auto sent = send(head); sent.has_error()) {
    return sent;
  }
  if (auto sent = send(payload); sent.has_error()) {
    return sent;
  }
  std::array<std::byte, nbd::simple_reply_bytes> reply{};
  if (auto got = receive(reply); got.has_error()) {
    return got;
  }
  if (load_be<std::uint32_t>(reply, 0) != nbd::simple_reply_magic ||
      load_be<std::uint64_t>(reply, 8) != cookie_) {
    return broken("broke the protocol");
  }
  if (auto error = load_be<std::uint32_t>(reply, 4); error != 0) {
    return io_failure(static_cast<int>(error),
                      "the disk server refuses offset " + std::to_string(offset_bytes));
  }
  return {};
}

result<void> nbd_client::read(std::uint64_t offset_bytes, std::span<std::byte> out) {
  if (offset_bytes > size_bytes_ || out.size() > size_bytes_ - offset_bytes) {
    return fail(ec::io,
                "reading past the end of the disk at offset " + std::to_string(offset_bytes));
  }
  while (!out.empty()) {
    auto start = offset_bytes / cluster_bytes * cluster_bytes;
    auto skip = offset_bytes - start;
    auto wanted = std::min<std::uint64_t>(skip + out.size(), piece_bytes_max);
    auto whole = (wanted + cluster_bytes - 1) / cluster_bytes * cluster_bytes;
    if (auto asked = ask(static_cast<std::uint16_t>(nbd::command::read), start,
                         static_cast<std::uint32_t>(whole), {});
        asked.has_error()) {
      return asked;
    }
    auto given = std::min<std::uint64_t>(out.size(), whole - skip);
    const bool is_wanted_whole = given == whole;
    buffer_.resize(is_wanted_whole ? 0 : whole);
    if (auto got = receive(is_wanted_whole ? out.first(whole) : std::span{buffer_});
        got.has_error()) {
      return got;
    }
    if (!is_wanted_whole) {
      std::copy_n(buffer_.begin() + static_cast<std::ptrdiff_t>(skip), given, out.begin());
    }
    out = out.subspan(given);
    offset_bytes += given;
  }
  return {};
}

result<void> nbd_client::write(std::uint64_t offset_bytes, std::span<const std::byte> data) {
  return ask(static_cast<std::uint16_t>(nbd::command::write), offset_bytes,
             static_cast<std::uint32_t>(data.size()), data);
}

} // namespace coppice::storage
