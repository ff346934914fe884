#pragma once

#include "protocol/result.hpp"
#include "storage/disk/extent.hpp"
#include "storage/file.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace coppice::storage::qcow2 {

/// One raw disk on its way into a sealed file (sealed_file.hpp).
///
/// Problem: an import copies gigabytes, so it reads and writes once, in order and in large pieces,
/// and looks at each cluster while it is in the processor's cache.
///
/// Guarantee: holes of the raw file are not read, clusters of zeros not written. The header is
/// written last. Memory: one buffer, and the tables of the result.
class raw_conversion {
public:
  /// `out` is empty; `disk_bytes` is the length of `raw`. Both must outlive it.
  raw_conversion(const file& raw, std::uint64_t disk_bytes, file& out);

  /// Once.
  result<void> run();

private:
  result<std::uint64_t> next_data(std::uint64_t from) const;
  result<std::uint64_t> end_of_data(std::uint64_t from) const;
  result<void> copy_range(std::uint64_t from, std::uint64_t end);
  void keep(std::uint64_t guest, std::span<const std::byte> bytes);
  result<void> flush();
  result<void> finish();

  const file& raw_;
  const std::uint64_t disk_bytes_;
  file& out_;
  std::vector<std::byte> buffer_; ///< whole clusters with content, then free space
  std::size_t used_bytes_ = 0;
  std::uint64_t written_end_; ///< the next cluster of `out_`
  std::vector<own_extent> own_;
  std::vector<std::uint32_t> checksums_;
};

} // namespace coppice::storage::qcow2
