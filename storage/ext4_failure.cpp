#include "storage/ext4_failure.hpp"

#include <et/com_err.h>

#include <cerrno>
#include <mutex>

namespace coppice::storage {

namespace {

/// Below are errno values, above the tables of com_err.
constexpr errcode_t errno_max = 256;

const char* text_of(errcode_t code) {
  static std::once_flag once;
  std::call_once(once, [] { add_error_table(&et_ext2_error_table); });
  return error_message(code);
}

} // namespace

failure ext4_failure(errcode_t code, std::string what) {
  if (code > 0 && code < errno_max) {
    return io_failure(static_cast<int>(code), std::move(what));
  }
  switch (code) {
  case EXT2_ET_BLOCK_ALLOC_FAIL:
    return fail(ec::too_large, what + ": the disk of the image is full");
  case EXT2_ET_INODE_ALLOC_FAIL:
    return fail(ec::too_large, what + ": no inode is left on the disk of the image");
  case EXT2_ET_EA_NO_SPACE:
    return fail(ec::too_large, what + ": more extended attributes than an ext4 inode holds");
  case EXT2_ET_SHORT_WRITE:
    // libext2fs does not ask why; files on a disk are cut short for no other reason.
    return io_failure(ENOSPC, std::move(what));
  case EXT2_ET_NO_MEMORY:
    return fail(ec::too_large, what + ": out of memory");
  default:
    return fail(ec::damaged, what + ": " + text_of(code));
  }
}

} // namespace coppice::storage
