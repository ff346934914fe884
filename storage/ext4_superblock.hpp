#pragma once

#include "protocol/result.hpp"
#include "storage/block_source.hpp"

namespace coppice::storage {

/// Whether the disk holds an ext4 that was cleanly unmounted.
///
/// Problem: an image is sealed once and for ever. A file system that was still mounted when its VM
/// died may lack what the command wrote, and there is no journal to replay. The kernel takes the
/// "valid" mark from the superblock when it mounts such a file system and puts it back as the last
/// write of the unmount.
///
/// Guarantee: success means that the superblock is an ext4's without journal, fits the disk, and
/// says "valid", no errors, no recovery needed. The guest wrote it: this tells an honest guest's
/// unfinished work from its finished work, it does not prove that the file system is sound.
/// not_clean, damaged (not an ext4, larger than the disk), unsupported (has a journal), io.
result<void> check_clean_ext4(block_source& disk);

} // namespace coppice::storage
