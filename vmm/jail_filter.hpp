#pragma once

namespace coppice::vmm {

/// Takes system calls away from this process and all that it executes, for good: those that make or
/// enter namespaces, mount, trace, load code into the kernel, or reach parts of it that no jailed
/// program needs (io_uring, keys, bpf, userfaultfd). They fail with EPERM; clone3, whose arguments
/// a filter cannot see, with ENOSYS, after which the C library uses clone.
///
/// Needs no_new_privs. What QEMU's own -sandbox denies comes on top. False: errno says why not.
bool install_jail_filter();

} // namespace coppice::vmm
