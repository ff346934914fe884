#pragma once

#include "protocol/result.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace coppice::storage::qcow2 {

/// The bytes of one qcow2 file, read-only. The format code sees nothing else of a file, so that
/// hostile bytes can be given to it from memory.
class byte_source {
public:
  virtual ~byte_source() = default;

  /// For texts of failures.
  virtual const std::string& name() const = 0;

  virtual std::uint64_t size_bytes() const = 0;

  /// Fills `out` from `offset_bytes`; bytes behind the end read as zeros, as QEMU has it for the
  /// last, partly written cluster of a file.
  virtual result<void> read(std::uint64_t offset_bytes, std::span<std::byte> out) const = 0;
};

/// A file that nobody writes to while it is read. not_found, io; damaged: not a regular file.
result<std::unique_ptr<byte_source>> open_bytes(const std::filesystem::path& path);

/// Bytes in memory.
std::unique_ptr<byte_source> bytes_in_memory(std::string name, std::vector<std::byte> bytes);

} // namespace coppice::storage::qcow2
