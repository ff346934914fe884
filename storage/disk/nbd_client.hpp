#pragma once

#include "protocol/result.hpp"
#include "storage/block_source.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace coppice::storage {

/// The other side of a served disk: a plain NBD client (doc/proto.md of NetworkBlockDevice/nbd),
/// one request at a time, with blocking calls.
///
/// Problem: who reads an image's blocks outside of a microVM (the inspect worker) must see what a
/// guest would see, at any depth, without the right to open a file. So it gets a socket to a disk,
/// as QEMU does.
///
/// Guarantee: whole clusters go over the wire whatever is asked for; a read never gives bytes that
/// the server did not send. Owner: one thread. Failures: io.
class nbd_client final : public block_source {
public:
  /// Takes over `socket`, connected, and shakes hands.
  static result<std::unique_ptr<nbd_client>> connect(int socket);

  ~nbd_client() override;
  nbd_client(const nbd_client&) = delete;
  nbd_client& operator=(const nbd_client&) = delete;

  std::uint64_t size_bytes() const override {
    return size_bytes_;
  }
  result<void> read(std::uint64_t offset_bytes, std::span<std::byte> out) override;

  /// Whole clusters only.
  result<void> write(std::uint64_t offset_bytes, std::span<const std::byte> data);

private:
  explicit nbd_client(int socket) : socket_{socket} {}

  result<void> shake_hands();
  result<void> ask(std::uint16_t command, std::uint64_t offset_bytes, std::uint32_t length_bytes,
                   std::span<const std::byte> payload);
  result<void> send(std::span<const std::byte> data);
  result<void> receive(std::span<std::byte> out);

  int socket_;
  std::uint64_t size_bytes_ = 0;
  std::uint64_t cookie_ = 0;
  std::vector<std::byte> buffer_; ///< whole clusters around what was asked for
};

} // namespace coppice::storage
