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

class vm_template;

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
  std::chrono::milliseconds restore_timeout{10'000};
  /// For QEMU to carry out pause or resume, or to answer whether it is there.
  std::chrono::milliseconds order_timeout{5'000};
  /// A paused VM says nothing by itself: so often it is asked for a sign of life.
  std::chrono::milliseconds look_interval{5'000};
  /// Restored instead of booted; made with the same options (template.hpp).
  std::shared_ptr<const vm_template> from;
};

/// Memory of a guest that becomes a template (template_build.cpp). Ours; open until `start`
/// returns.
struct template_mould {
  int ram = -1;   ///< empty file of the guest's memory size, which QEMU maps shared
  int state = -1; ///< receives the devices' state on `save`
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

/// Nothing behind the disk: it reads as zeros. The device is the same as every guest's disk.
disk_attachment no_disk();

/// One QEMU microVM: process, QMP, guest channel, console; booted, or restored from a template.
///
/// Guarantee: after `start` exactly one of `on_ready` and `on_failed` comes; after `on_ready`,
/// `on_message` for each valid message and at most one `on_failed`; `on_gone` comes last, exactly
/// once, when the process is gone and the disk closed. All run on the event loop's thread.
/// Everything from the guest is checked before `on_message`: sizes, pointers, text, enum values.
/// A restored guest is ready with the ready message of its template. One that dies, that does not
/// pause or resume, or that gives no sign of life while it is paused is a failure within
/// look_interval + order_timeout.
class machine {
public:
  struct callbacks {
    std::function<void(frame<proto::FromGuest>)> on_ready; ///< the ready message
    std::function<void(frame<proto::FromGuest>)> on_message;
    std::function<void(std::string)> on_failed; ///< why, with the last console lines
    std::function<void()> on_writable; ///< after `send` said busy: the queue is half empty again
    std::function<void(bool killed)> on_gone; ///< killed: by a signal, the disk not closed in order
  };

  /// The answer to an order: given exactly once, on the event loop's thread, before `on_gone`.
  /// refused: the order does not fit the state of the VM, nothing was done; exited: the VM failed
  /// or was ended before the order was carried out.
  using answer = std::function<void(result<void>)>;

  /// missing: kernel, initramfs or QEMU; stale: the template was made for something else (the text
  /// says for what) and has to be built anew; spawn.
  static result<std::shared_ptr<machine>> start(event_loop& loop, const machine_options& options,
                                                disk_attachment disk, callbacks on);

  /// Boots a guest to be saved: its memory is the mould's.
  static result<std::shared_ptr<machine>> start(event_loop& loop, const machine_options& options,
                                                const template_mould& mould, callbacks on);

  /// Restores a guest to be saved again: the mould's memory holds a copy of options.from's.
  static result<std::shared_ptr<machine>> start(event_loop& loop, const machine_options& options,
                                                disk_attachment disk, const template_mould& mould,
                                                callbacks on);

  ~machine();
  machine(const machine&) = delete;
  machine& operator=(const machine&) = delete;

  /// Queues a message for the guest. busy: more than `queue_bytes_max` wait; try later.
  result<void> send(const frame<proto::ToGuest>& message);

  /// Bytes of messages that the owner has been given (ready included) and is done with. Reading
  /// from the guest pauses while more than `unread_bytes_max` are not: a flood costs no memory.
  void consumed(std::size_t bytes);

  /// Halts the guest's processors; it costs no processor time until `resume`. After `on_ready`.
  /// The guest may be anywhere in its work. What it has asked of its disk is done before the
  /// answer.
  void pause(answer done);

  /// Lets a paused guest go on.
  void resume(answer done);

  /// Halts a guest that was started with a mould and writes its state there. After `on_ready`.
  void save(answer done);

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
