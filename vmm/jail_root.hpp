#pragma once

#include "protocol/result.hpp"
#include "vmm/error.hpp"
#include "vmm/launch_request.hpp"

#include <array>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace coppice::vmm {

/// What jailed processes may see of the host: fixed before the first byte from outside is read.
struct jail_contents {
  /// Absolute path of each kind's program on the host; empty: there is none.
  std::array<std::string, child_kinds> programs;
  /// Kernels and initramfs files that QEMU may read.
  std::vector<std::string> guest_files;
};

/// Where the guest file number `index` is in the root of a QEMU.
std::string guest_file_in_jail(const jail_contents& contents, std::size_t index);

/// One folder for each kind, from which a jail's root is made: the program, the libraries that the
/// loader says it needs, what else the kind needs to read (firmware, certificates), all as
/// read-only mounts of these very files, on a read-only file system with nothing else.
///
/// A package that is upgraded meanwhile changes nothing: a mount holds the file, not its name.
/// Owner: the launcher, in a mount namespace of its own, which this enters.
class jail_roots {
public:
  /// Needs CAP_SYS_ADMIN. spawn: with what failed.
  static result<jail_roots> build(const jail_contents& contents);

  struct kind_root {
    std::string folder;       ///< seen from the launcher; empty: this kind cannot be started
    std::string program;      ///< seen from inside
    std::string library_path; ///< folders where the loader does not look by itself
  };

  const kind_root& of(child_kind kind) const {
    return roots_[static_cast<std::size_t>(kind)];
  }

  /// A device node /dev/kvm that every user may open, outside of the roots; empty: the host has
  /// none.
  const std::string& kvm() const {
    return kvm_;
  }

private:
  std::array<kind_root, child_kinds> roots_;
  std::string kvm_;
};

/// The files that the dynamic loader would open for a program or library, itself included; none for
/// one that is linked statically.
std::vector<std::string> libraries_of(const std::string& file);

/// The paths in what `ld.so --list` prints.
std::vector<std::string> parse_library_list(std::string_view text);

} // namespace coppice::vmm
