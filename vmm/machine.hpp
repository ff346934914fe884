#pragma once

#include "protocol/frame.hpp"
#include "protocol/guest.capnp.h"
#include "protocol/result.hpp"
#include "vmm/child_process.hpp"
#include "vmm/event_loop.hpp"
#include "vmm/unique_fd.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

namespace coppice::vmm {

enum class accelerator { tcg, kvm };

std::string_view to_string(accelerator a);

/// What a microVM is made of.
struct machine_options {
  std::string qemu = "qemu-system-x86_64";
  std::filesystem::path kernel;    ///< uncompressed vmlinux (PVH) or bzImage
  std::filesystem::path initramfs; ///< with coppice-agent as /init
  accelerator accel = accelerator::tcg;
  std::uint32_t memory_mib = 256;
  std::uint32_t cpus = 1;
  std::chrono::milliseconds boot_timeout{60'000};
  std::chrono::milliseconds quit_timeout{10'000};
};

/// How QEMU reaches the disk.
struct disk_attachment {
  std::string blockdev;                         ///< -blockdev argument that defines node d0
  std::vector<std::pair<int, int>> descriptors; ///< handed to QEMU, as in child_options
  unique_fd socket;                             ///< of a served disk; closed here once QEMU has it
};

/// A disk server at the other end of a connected socket (NBD): QEMU sees no file of the store.
disk_attachment served_disk(unique_fd socket);

/// QEMU opens a qcow2 file itself, and the chain below it by the backing names in the headers with
/// their formats given; nothing is probed. For tests and figures: what the disk server is compared
/// with.
disk_attachment file_disk(const std::filesystem::path& overlay);

/// One QEMU microVM: process, QMP, guest channel, console. Cold boot.
///
/// Guarantee: after `start` exactly one of `on_ready` and `on_failed` comes; after `on_ready`,
/// `on_message` for each valid message and at most one `on_failed`; `on_gone` comes last, exactly
/// once, when the process is gone and the disk closed. All run on the event loop's thread.
/// Everything from the guest is checked before `on_message`: sizes, pointers, text, enum values.
class machine {
public:
  struct callbacks {
    std::function<void(frame<proto::FromGuest>)> on_ready; ///< the ready message
    std::function<void(frame<proto::FromGuest>)> on_message;
    std::function<void(std::string)> on_failed; ///< why, with the last console lines
    std::function<void()> on_writable; ///< after `send` said busy: the queue is half empty again
    std::function<void(bool killed)> on_gone; ///< killed: by a signal, the disk not closed in order
  };

  static result<std::shared_ptr<machine>> start(event_loop& loop, const machine_options& options,
                                                disk_attachment disk, callbacks on);

  ~machine();
  machine(const machine&) = delete;
  machine& operator=(const machine&) = delete;

  /// Queues a message for the guest. busy: more than `queue_bytes_max` wait; try later.
  result<void> send(const frame<proto::ToGuest>& message);

  /// Bytes of messages that the owner has been given (ready included) and is done with. Reading
  /// from the guest pauses while more than `unread_bytes_max` are not: a flood costs no memory.
  void consumed(std::size_t bytes);

  /// QMP quit, so that QEMU closes the disk; SIGKILL when that takes longer than quit_timeout.
  void quit();

  /// SIGKILL now.
  void kill();

  /// The process id of the guard, for logs and tests.
  int pid() const;

  static constexpr std::size_t queue_bytes_max = 4u << 20;
  static constexpr std::size_t unread_bytes_max = 4u << 20;

private:
  struct impl;
  explicit machine(std::shared_ptr<impl> state);
  std::shared_ptr<impl> impl_;
};

/// The verdict on the accelerator: a guest was really booted under it and its agent answered.
struct accelerator_verdict {
  accelerator accel = accelerator::tcg;
  std::string reason; ///< one sentence for the log and `coppice doctor`
};

/// Boots a diskless guest under KVM and waits for its agent, at most `deadline`; else TCG with the
/// reason. Blocks; the daemon runs it on a thread of its own at start.
accelerator_verdict probe_accelerator(event_loop& loop, machine_options options,
                                      std::chrono::milliseconds deadline);

} // namespace coppice::vmm
