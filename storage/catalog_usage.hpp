#pragma once

#include "protocol/records.capnp.h"
#include "storage/catalog_tables.hpp"

#include <cstdint>
#include <string_view>

/// What each project takes, kept up with every change instead of counted when asked.
///
/// Guarantee: the totals are exactly those of the records, in the same transaction: no crash comes
/// between them. Failures are the transaction's.
namespace coppice::storage {

/// What a change adds to a project's totals; what it takes away is negative.
struct usage_change {
  std::int64_t images = 0;
  std::int64_t image_bytes = 0;
  std::int64_t files = 0;
  std::int64_t file_bytes = 0;
};

usage_change usage_of(proto::ImageRecord::Reader image);
usage_change usage_of(proto::FileRecord::Reader file);

/// The opposite of a change.
usage_change operator-(const usage_change& of);

void change_usage(lmdb::transaction& in, const tables& t, std::string_view project,
                  const usage_change& by);

/// Counts all once, for a catalog of the version before. damaged.
result<void> make_usage(lmdb::transaction& in, const tables& t);

} // namespace coppice::storage
