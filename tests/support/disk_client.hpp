#pragma once

#include "storage/disk/extent.hpp"
#include "storage/disk/nbd_protocol.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace coppice::test {

/// A guest's side of a served disk: one blocking request at a time, as simple as NBD can be. Throws
/// where the server refuses.
class disk_client {
public:
  /// Takes over `fd` and shakes hands (section "Fixed newstyle negotiation").
  explicit disk_client(int fd) : fd_{fd} {
    receive(18);
    std::vector<std::byte> out(4 + 16 + 14);
    storage::nbd::store<std::uint32_t>(out, 0, 3); // fixed newstyle, no zeroes
    storage::nbd::store<std::uint64_t>(out, 4, 0x49484156454f5054);
    storage::nbd::store<std::uint32_t>(out, 12, option_go);
    storage::nbd::store<std::uint32_t>(out, 16, 10);
    storage::nbd::store<std::uint32_t>(out, 20, 4);
    const std::string name = "disk";
    for (std::size_t i = 0; i < name.size(); ++i) {
      out[24 + i] = static_cast<std::byte>(name[i]);
    }
    storage::nbd::store<std::uint16_t>(out, 28, 0);
    out.resize(30);
    send(out);
    for (;;) {
      auto head = receive(20);
      auto type = storage::nbd::load<std::uint32_t>(head, 12);
      receive(storage::nbd::load<std::uint32_t>(head, 16));
      if (type == reply_ack) {
        return;
      }
      if ((type & (1u << 31)) != 0) {
        throw std::runtime_error{"the disk server refuses the export"};
      }
    }
  }
  ~disk_client() {
    ::close(fd_);
  }
  disk_client(const disk_client&) = delete;
  disk_client& operator=(const disk_client&) = delete;

  void read(std::uint64_t offset, std::span<std::byte> out) {
    ask(command_read, offset, static_cast<std::uint32_t>(out.size()), {});
    fill(out);
  }
  void write(std::uint64_t offset, std::span<const std::byte> data) {
    ask(command_write, offset, static_cast<std::uint32_t>(data.size()), data);
  }
  void trim(std::uint64_t offset, std::uint32_t length) {
    ask(command_trim, offset, length, {});
  }

private:
  static constexpr std::uint32_t option_go = 7;
  static constexpr std::uint32_t reply_ack = 1;
  static constexpr std::uint16_t command_read = 0;
  static constexpr std::uint16_t command_write = 1;
  static constexpr std::uint16_t command_trim = 4;

  void ask(std::uint16_t command, std::uint64_t offset, std::uint32_t length,
           std::span<const std::byte> payload) {
    std::vector<std::byte> out(28);
    storage::nbd::store<std::uint32_t>(out, 0, storage::nbd::request_magic);
    storage::nbd::store<std::uint16_t>(out, 6, command);
    storage::nbd::store<std::uint64_t>(out, 8, ++cookie_);
    storage::nbd::store<std::uint64_t>(out, 16, offset);
    storage::nbd::store<std::uint32_t>(out, 24, length);
    out.insert(out.end(), payload.begin(), payload.end());
    send(out);
    auto head = receive(16);
    if (auto error = storage::nbd::load<std::uint32_t>(head, 4)) {
      throw std::runtime_error{"the disk server answers error " + std::to_string(error)};
    }
  }

  void send(std::span<const std::byte> data) {
    while (!data.empty()) {
      auto n = ::send(fd_, data.data(), data.size(), MSG_NOSIGNAL);
      if (n <= 0) {
        throw std::runtime_error{"the disk server is gone"};
      }
      data = data.subspan(static_cast<std::size_t>(n));
    }
  }
  void fill(std::span<std::byte> out) {
    while (!out.empty()) {
      auto n = ::recv(fd_, out.data(), out.size(), 0);
      if (n <= 0) {
        throw std::runtime_error{"the disk server is gone"};
      }
      out = out.subspan(static_cast<std::size_t>(n));
    }
  }
  std::vector<std::byte> receive(std::size_t count) {
    std::vector<std::byte> out(count);
    fill(out);
    return out;
  }

  int fd_;
  std::uint64_t cookie_ = 0;
};

} // namespace coppice::test
