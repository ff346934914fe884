#pragma once

#include "storage/block_source.hpp"

#include <ext2fs/ext2fs.h>

namespace coppice::storage::inspection {

/// Opens the ext4 on a block source for reading, through an io_manager of libext2fs that hands
/// every read to the source. The caller keeps the source alive until the handle is freed. Anything
/// but success leaves nothing behind.
errcode_t open_on_source(block_source& source, ext2_filsys* out);

} // namespace coppice::storage::inspection
