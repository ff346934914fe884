#pragma once

#include "vmm/machine.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace coppice::vmm {

/// Numbers of the inherited sockets inside QEMU.
struct machine_sockets {
  int console = -1;
  int qmp = -1;
  int agent = -1;
  int ram = -1;   ///< file of the guest's memory: of a mould or a template, else none
  int state = -1; ///< a template's state, to be read
};

/// Where a guest's memory comes from.
enum class memory_kind {
  own,      ///< anonymous, empty
  mould,    ///< a file that becomes a template's memory, mapped shared
  restored, ///< a template's file, mapped copy-on-write; nothing is booted
  regrown,  ///< a copy of a template's, mapped shared: restored, to become another template
};

/// The lowest numbers above the standard ones that the disk does not use.
machine_sockets pick_sockets(const disk_attachment& disk);

/// The arguments, argv[0] included. Pure: the same input gives the same line. All kinds have the
/// same machine and devices, the console included, or a template would not fit.
/// `tsc_khz` 0: not known, the guest has to find out by itself.
std::vector<std::string> command_line(const machine_options& options, const disk_attachment& disk,
                                      const machine_sockets& sockets, memory_kind memory,
                                      std::uint32_t tsc_khz);

/// What the guest kernel is told.
std::string kernel_arguments(accelerator accel, std::uint32_t tsc_khz);

/// QEMU separates options by commas and takes two for one that is meant.
std::string escape_commas(std::string_view text);

} // namespace coppice::vmm
