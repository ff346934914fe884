#pragma once

#include "protocol/result.hpp"

#include <cstdint>
#include <filesystem>

namespace coppice::storage {

/// What a copy took.
struct copied_file {
  std::uint64_t data_bytes = 0; ///< without holes
  bool is_shared = false;       ///< the file system shares the blocks of both
};

/// Copies a file that nobody writes to (holes may be punched into it meanwhile) to a new one that
/// only its owner may read. Holes stay holes; where the file system can, the blocks are shared. The
/// content is durable when it returns, the name once the folder is synced.
/// not_found: `from` is not there. conflict: `to` is. On a failure there is no `to`.
result<copied_file> copy_sparse(const std::filesystem::path& from, const std::filesystem::path& to);

} // namespace coppice::storage
