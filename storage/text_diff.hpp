#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace coppice::storage {

/// Texts that differ in more lines than this are told as a whole: memory and time grow with the
/// square of it.
inline constexpr std::size_t diff_edits_max = 2000;

/// What has to be done to make `newer` of `older`, as a unified diff with three lines of context;
/// empty where they are equal. `name`: as the headers call both. A text without a line's end at its
/// end is told so, as by diff(1).
/// Memory: about 20 MiB beside the texts at worst.
std::string unified_diff(std::string_view older, std::string_view newer, std::string_view name);

} // namespace coppice::storage
