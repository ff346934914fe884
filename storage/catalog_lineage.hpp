#pragma once

#include "protocol/records.capnp.h"
#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/catalog_tables.hpp"
#include "storage/image_deletion.hpp"

#include <optional>

/// What of an image outlives it: its file, on which those of its children stand, and its index, if
/// that is a checkpoint.
///
/// Problem: an image is deleted while images that were branched from it live on. What they need
/// must stay, everything else must go, and finding out which must not mean to look at all images.
///
/// Guarantee: a file is known while its image lives or a file stands on it; an index is stored
/// while its image lives or the index of a live image stands on it. Nothing is counted: there is a
/// row for each reason to stay, so nothing can be counted wrong. Deleting costs a few look-ups for
/// each file that is let go.
/// Failures are the transaction's, if not said otherwise.
namespace coppice::storage {

/// Images that were made before there were indexes come without.
using given_index = std::optional<proto::ImageIndex::Reader>;

/// Whether an image may be added. conflict: its file is still there from a deleted image of that
/// id; its parent is not live (space that only a deleted image sees may be gone already); the
/// checkpoint is none. unsupported: the index is empty.
result<void> check_lineage(lmdb::transaction& in, const tables& t,
                           proto::ImageRecord::Reader record, given_index index);

/// For an image that has been checked.
void insert_lineage(lmdb::transaction& in, const tables& t, proto::ImageRecord::Reader record,
                    given_index index);

/// For an image whose record is erased: what nothing needs any more is erased too, up to the first
/// parent that stays. Above that one, less may be seen of the dead up to the first live image: that
/// one sees all that the deleted image had from further up.
image_deletion erase_lineage(lmdb::transaction& in, const tables& t, const uuid& image);

/// Its file, standing on that of its parent (nil: none).
void insert_image_file(lmdb::transaction& in, const tables& t, const uuid& image,
                       const uuid& parent);

} // namespace coppice::storage
