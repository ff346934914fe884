#pragma once

#include "protocol/records.capnp.h"
#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/catalog_tables.hpp"

#include <optional>
#include <string_view>

/// Who needs an image or a blob beside those that name it in a listing.
///
/// Problem: an image must not be deleted while an operation that was given it has not ended, and
/// that must hold from the commit that accepts the operation to the one that ends it, through any
/// restart; a blob is known by several projects. Looking at all operations or all files would tell,
/// but not cheaply.
///
/// Guarantee: there is a row for each reason, written and erased in the same transaction as the
/// record that is the reason. Failures are the transaction's.
namespace coppice::storage {

/// After every change of an operation's record. `before`: the stored row, or empty.
void follow_image_user(lmdb::transaction& in, const tables& t,
                       const frame<proto::OperationRecord>& before,
                       proto::OperationRecord::Reader record);

/// An operation that was given the image and has not ended.
std::optional<uuid> find_image_user(lmdb::transaction& in, const tables& t, const uuid& image);

void insert_blob_user(lmdb::transaction& in, const tables& t, std::string_view digest,
                      std::string_view project);

bool has_blob_user(lmdb::transaction& in, const tables& t, std::string_view digest);

/// The rows of the versions before. damaged.
result<void> make_users(lmdb::transaction& in, const tables& t);

} // namespace coppice::storage
