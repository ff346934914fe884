#pragma once

#include "protocol/uuid.hpp"

#include <cstdint>

namespace coppice {

/// A new version-7 identifier (RFC 9562): the time in milliseconds and a fraction of one, then 62
/// random bits.
///
/// Problem: with random ids, records that were made one after the other lie far apart in a catalog
/// of a million: each commit writes, and each page of a listing reads, as many pages of the file as
/// it has records. Ids that begin with the time keep them together.
uuid ordered_uuid(std::int64_t unix_ns);

} // namespace coppice
