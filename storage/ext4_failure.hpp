#pragma once

#include "storage/error.hpp"

#include <ext2fs/ext2fs.h>

#include <string>

namespace coppice::storage {

/// Translates a code of libext2fs once: system errors as io_failure does; no room for blocks,
/// inodes or attributes is too_large; everything else says that the file system is damaged.
failure ext4_failure(errcode_t code, std::string what);

} // namespace coppice::storage
