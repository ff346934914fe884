#pragma once

#include "protocol/result.hpp"
#include "storage/catalog_tables.hpp"
#include "storage/lmdb.hpp"

#include <cstddef>
#include <cstdint>

/// A catalog of an older version becomes one of this.
///
/// Problem: a new table must be filled from a million records, which is too much for one
/// transaction, and the daemon may be killed in the middle.
///
/// Guarantee: each step only writes what a record says anew, so that it can be done again from its
/// start, and it is until the last transaction has written the new version.
namespace coppice::storage {

/// Records that are looked at in one transaction.
inline constexpr std::size_t upgrade_batch_records = 10'000;

/// `from` is 1 or later. damaged; no_space.
result<void> upgrade(const lmdb::environment& env, const tables& t, std::uint64_t from,
                     std::size_t batch_records = upgrade_batch_records);

} // namespace coppice::storage
