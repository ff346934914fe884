#pragma once

#include "protocol/frame.hpp"
#include "protocol/guest.capnp.h"
#include "protocol/result.hpp"
#include "vmm/error.hpp"
#include "vmm/machine.hpp"
#include "vmm/sha256.hpp"
#include "vmm/unique_fd.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace coppice::vmm {

class launcher;

/// Names a file's content without reading it, as long as nobody forges times.
struct file_identity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size_bytes = 0;
  std::int64_t modified_ns = 0;

  friend bool operator==(const file_identity&, const file_identity&) = default;
};

/// All that the saved state of a VM depends on.
///
/// Problem: a template that is restored by another QEMU, or whose kernel or agent is not the
/// installed one, fails in the best case. Hence a key over everything that goes in. Programs and
/// images count by content (SHA-256); QEMU's own libraries and firmware do not: they come and go
/// with its package, and with it the program's content.
struct template_ingredients {
  accelerator accel = accelerator::tcg;
  std::uint32_t memory_mib = 0;
  std::uint32_t cpus = 0;
  sha256_digest qemu{};
  sha256_digest kernel{};
  sha256_digest initramfs{};          ///< holds the agent
  std::vector<std::string> arguments; ///< QEMU's, without paths, descriptors and the clock rate:
                                      ///< machine, processor, memory, devices (so: no network)
  std::string host;                   ///< under KVM: processor and host kernel, else empty
  /// Measured anew at each start, with a small error: hence not part of the key but compared with
  /// `clock_tolerance_ppm` when a kept template is loaded. Whether it is known is in `arguments`.
  std::uint32_t tsc_khz = 0;

  // Seen when the contents were read; not part of the key.
  file_identity qemu_file;
  file_identity kernel_file;
  file_identity initramfs_file;
  std::string qemu_path;
};

/// A guest that was told a rate so far off runs its timers and clock that much too fast or slow
/// between two settings of the clock (there is one at the start of each run).
inline constexpr std::uint32_t clock_tolerance_ppm = 500;

/// Reads QEMU, kernel and initramfs (some 80 MB): blocks for a tenth of a second or more. The
/// guest's files are read through the launcher's descriptors where it has them: this process may
/// not be able to open them, and they are what QEMU gets even if there are others by these names.
/// missing; io.
result<template_ingredients> collect_ingredients(const machine_options& options,
                                                 const launcher* jailer = nullptr);

/// Pure.
sha256_digest key_of(const template_ingredients& ingredients);

/// Whether the files still are those that were read.
result<void> check_unchanged(const template_ingredients& ingredients,
                             const machine_options& options, const launcher* jailer = nullptr);

/// A VM booted to where its agent waits for orders, with no disk touched, and saved.
///
/// Guarantee: neither memory nor state can be changed any more, by whoever has a descriptor: both
/// are sealed memory files. Immutable; shared by the machines that start from it; any thread.
class vm_template {
public:
  struct parts {
    template_ingredients ingredients;
    unique_fd ram;   ///< memory file of memory_mib, sealed
    unique_fd state; ///< memory file, sealed
    frame<proto::FromGuest> ready;
  };

  /// Seals what is not sealed yet. io: not possible (still mapped for writing, not a memory file);
  /// stale: sizes that cannot be.
  static result<std::shared_ptr<const vm_template>> make(parts from);

  const sha256_digest& key() const {
    return key_;
  }
  const template_ingredients& ingredients() const {
    return parts_.ingredients;
  }
  /// What the agent said when it was ready.
  const frame<proto::FromGuest>& ready() const {
    return parts_.ready;
  }

  /// Open file descriptions of their own, for reading. A duplicate would share its offset with
  /// every other restore. io.
  result<unique_fd> open_ram() const;
  result<unique_fd> open_state() const;

  /// Whether a machine of these options may start from it. Cheap: looks at QEMU's file.
  /// stale: with what differs.
  result<void> check_fits(const machine_options& options) const;

  std::uint64_t ram_bytes() const;
  std::uint64_t ram_allocated_bytes() const; ///< of which memory is really used
  std::uint64_t state_bytes() const;

private:
  vm_template(parts from, const sha256_digest& key) : parts_{std::move(from)}, key_{key} {}

  parts parts_;
  sha256_digest key_;
};

} // namespace coppice::vmm
