#pragma once

#include "protocol/result.hpp"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

/// Names in a layer's tar, made safe.
///
/// Problem: a tar may name `../x`, `/x`, `./x`, `a//b`, names that no file system holds, and the
/// whiteouts of the image spec, which are names as well.
/// Guarantee: components are never empty, `.`, `..` or longer than ext4 allows, and hold neither a
/// slash nor a zero byte. Names are bytes: no encoding is assumed. Pure function, any thread.
namespace coppice::storage {

using path_components = std::vector<std::string>;

inline constexpr std::size_t layer_path_bytes_max = 4096; ///< PATH_MAX
inline constexpr std::size_t name_bytes_max = 255;        ///< ext4

struct layer_path {
  enum class kind {
    entry,    ///< a file; no components: the root directory
    whiteout, ///< `.wh.NAME`: components name what is hidden
    opaque,   ///< `.wh..wh..opq`: components name the directory whose lower content is hidden
    ignored,  ///< `.wh..wh.*`: notes that aufs left for itself
  };
  kind what = kind::entry;
  path_components components;
};

/// Leading slashes, empty components and `.` are dropped. damaged: `..`, a whiteout of nothing or
/// of
/// `.` or `..`, a directory named like a whiteout; too_large: a name or path beyond the limits.
result<layer_path> parse_layer_path(std::string_view raw);

/// The same for the target of a hard link, which names an entry and is never a whiteout.
result<path_components> parse_link_target(std::string_view raw);

} // namespace coppice::storage
