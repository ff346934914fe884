#pragma once

#include "protocol/result.hpp"

#include <filesystem>

/// Making qcow2 files (docs/interop/qcow2.txt, version 3).
///
/// Problem: an import has a raw disk and needs a file that any qcow2 tool reads, without a VM and
/// without qemu-img.
///
/// Guarantee: what is written is valid, with right reference counts: `qemu-img check` finds neither
/// errors nor leaks. On failure no new file is left. An existing file is never overwritten
/// (conflict). It is not made durable: a file has no value before the store seals it.
/// Any thread; nothing is kept between calls.
namespace coppice::storage::qcow2 {

/// Writes the content of the raw file `raw` (its length, a multiple of 512, is the size of the
/// disk) to a new sealed file `out` without backing file (sealed_file.hpp). Holes and clusters of
/// zeros take no space.
result<void> write_from_raw(const std::filesystem::path& raw, const std::filesystem::path& out);

} // namespace coppice::storage::qcow2
