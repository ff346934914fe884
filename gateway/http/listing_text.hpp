#pragma once

#include "protocol/inspect.capnp.h"

#include <cstdint>
#include <string>

/// A directory as `ls -lh` shows it: only people read it.
namespace coppice::gateway {

/// `drwxr-xr-x`.
std::string mode_text(std::uint32_t mode);

/// 999, 1.2K, 34M.
std::string human_size(std::uint64_t bytes);

/// One line, with its end. Control characters of the name become `?`.
std::string listing_line(proto::FileEntry::Reader entry);

} // namespace coppice::gateway
