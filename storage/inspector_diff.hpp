#pragma once

#include "protocol/result.hpp"
#include "storage/inspector.hpp"
#include "storage/inspector_ext4.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace coppice::storage {

/// A run of clusters that two disks have in different places.
struct cluster_run {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
};

/// Where two disks differ, sorted; nothing: it is not known, so content has to be read.
using disk_changes = std::optional<std::vector<cluster_run>>;

namespace inspection {

/// Two images that share nothing are read whole; files that hostile guests have made can be longer
/// than anybody reads.
inline constexpr std::chrono::seconds diff_deadline{60};

/// What the newer file system has otherwise than the older: paths in the order of walks, with sizes
/// and modes. A file whose content lies in the same places of both disks, where the disks are the
/// same, is equal without being read; others of the same size are read. Times and extended
/// attributes do not count. Ends truncated after `deadline` of work (zero: never).
/// Memory: two walks. Both file systems outlive it. too_large: a directory that is not sorted.
result<std::unique_ptr<answer_source>>
make_diff(file_system& older, file_system& newer, disk_changes changed,
          std::chrono::milliseconds deadline = diff_deadline);

/// Larger files are not compared line by line.
inline constexpr std::uint64_t text_bytes_max = 1u << 20;

/// A unified diff of one path, as data. not_found: in neither; wrong_type: not a file; too_large;
/// for binary files a line that says so.
result<std::unique_ptr<answer_source>> make_text_diff(file_system& older, file_system& newer,
                                                      const std::string& path);

} // namespace inspection
} // namespace coppice::storage
