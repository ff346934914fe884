#pragma once

#include "storage/grep_pattern.hpp"
#include "storage/inspector.hpp"
#include "storage/inspector_ext4.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace coppice::storage {

/// A search in the files of an image.
struct grep_query {
  std::vector<std::string> patterns;
  std::vector<std::string> paths; ///< absolute
  std::vector<std::string> globs;
  std::uint64_t max_count = 0; ///< matching lines of one file; 0: all
  std::uint64_t max_total = 0; ///< of all; 0: as many as there are
  grep_case how = grep_case::sensitive;
  std::uint32_t before = 0;
  std::uint32_t after = 0;
  std::chrono::milliseconds deadline{}; ///< of work; zero: none
};

namespace inspection {

/// The lines that match, file by file in the order of the walk. Hidden files are searched, binary
/// ones (those with a zero byte) are not, links are not followed.
///
/// Guarantee: memory is a window of one file and the lines around one match; lines are told up to
/// 16 KiB of them. not_found: no such path; unsupported: the query cannot be meant.
result<std::unique_ptr<answer_source>> make_grep(file_system& fs, const grep_query& query);

} // namespace inspection
} // namespace coppice::storage
