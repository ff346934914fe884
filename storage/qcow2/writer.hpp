#pragma once

#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/qcow2/header.hpp"

#include <cstdint>
#include <filesystem>

/// Making qcow2 files (docs/interop/qcow2.txt, version 3).
///
/// Problem: starting qemu-img costs 8 to 9 ms, and an import needs a file that any qcow2 tool
/// reads. So both kinds of file that we make are written here, in this process, without a VM.
///
/// Guarantee: what is written is valid, with right reference counts: `qemu-img check` finds neither
/// errors nor leaks. On failure no new file is left. An existing file is never overwritten
/// (conflict). Neither is made durable: a file has no value before the store seals it.
/// Any thread; nothing is kept between calls.
namespace coppice::storage::qcow2 {

/// The header that `create_overlay` writes.
header overlay_header(const uuid& parent, std::uint64_t disk_bytes);

/// An empty overlay at `path`: `disk_bytes` of disk over the image `parent`, by backing_name().
/// The backing file is neither opened nor looked for. too_large: above disk_bytes_max.
result<void> create_overlay(const std::filesystem::path& path, const uuid& parent,
                            std::uint64_t disk_bytes);

/// Writes the content of the raw file `raw` (its length, a multiple of 512, is the size of the
/// disk) to a new sealed file `out` without backing file (sealed_file.hpp). Holes and clusters of
/// zeros take no space.
result<void> write_from_raw(const std::filesystem::path& raw, const std::filesystem::path& out);

} // namespace coppice::storage::qcow2
