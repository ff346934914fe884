#pragma once

#include "storage/disk/block_device.hpp"
#include "storage/ring/ring.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace coppice::storage {

/// The disk of one virtual machine, from its virtio-blk's point of view: the server's end of an NBD
/// connection, behind which the owner may exchange the disk.
///
/// Problem: QEMU is the client and may be hostile; the guest waits for each reply; a machine that
/// waits for its next task must not hold memory.
///
/// Guarantee: at most requests_max requests and payload_bytes_max of payload are in the air; then
/// the socket is not read (back-pressure). A request reaches the device only if it lies inside the
/// disk in whole clusters. Replies go out in the order in which the device ends, those that are
/// ready together in one send. Flushes are answered at once and FUA asks for nothing more: a disk
/// becomes durable when it is sealed, and a disk that is lost before is no image.
/// Owner: the thread of the ring.
class nbd_connection {
public:
  struct settings {
    std::uint64_t disk_bytes = 0; ///< what the client is told; the size of every device to come
    std::string export_name = "disk";
  };

  static constexpr std::size_t requests_max = 64;
  /// Of all requests together, so one of the greatest at a time.
  static constexpr std::size_t payload_bytes_max = 32u << 20;

  /// Takes over `fd`, a connected stream socket in blocking mode, and begins. `device` may be null
  /// (see point_to). `on_closed` is called once, when the peer is gone, broke the protocol or
  /// close() was called, and neither the device nor the ring has a request of it any more. It may
  /// destroy the connection.
  nbd_connection(ring& on, int fd, settings chosen, block_device* device,
                 std::function<void(const std::string& reason)> on_closed);

  /// Only after on_closed, or from inside it.
  ~nbd_connection();
  nbd_connection(const nbd_connection&) = delete;
  nbd_connection& operator=(const nbd_connection&) = delete;

  /// What requests that come from now on are given to; null: they are answered that the server
  /// shuts down. The former device still has those that were given to it (see drained).
  void point_to(block_device* device);

  /// Calls `then` once, as soon as no device has a request of this connection; that may be now.
  /// Meant for after point_to(nullptr): then the memory of payloads is given back, too.
  void drained(std::function<void()> then);

  /// Ends it. on_closed may be called from inside.
  void close();

  struct counters {
    std::uint64_t requests = 0; ///< flushes and refused ones too
    std::uint64_t errors = 0;   ///< answered with an error
    std::uint64_t read_bytes = 0;
    std::uint64_t written_bytes = 0; ///< zeros that were asked for without payload not counted
    std::uint64_t receives = 0;      ///< calls, to judge batching by
    std::uint64_t sends = 0;
    std::size_t requests_peak = 0; ///< most in the air at once
    std::size_t payload_bytes_peak = 0;
  };
  const counters& counts() const;

private:
  struct impl;
  std::shared_ptr<impl> impl_;
};

} // namespace coppice::storage
