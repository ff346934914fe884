#pragma once

#include "protocol/messages.capnp.h"
#include "protocol/uuid.hpp"
#include "storage/catalog.hpp"
#include "storage/catalog_keys.hpp"
#include "storage/catalog_tables.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

/// Pages of listings, found in the indexes.
///
/// Guarantee: a page takes out as many records as it has rows, whatever else there is. What a page
/// leaves out in front (`offset`) it steps over by key, at 25 to 50 ns each: LMDB's tree cannot
/// count.
namespace coppice::storage {

/// The part of a listing that was asked for.
struct window {
  std::uint32_t limit = 0;
  std::uint64_t offset = 0;
  std::int64_t since = 0;
  std::int64_t until = 0;

  template <class Request>
  static window of(Request request) {
    return {std::min(request.getLimit(), catalog::page_rows_max), request.getOffset(),
            request.getSinceUnixNs(), request.getUntilUnixNs()};
  }

  bool has(std::int64_t time) const {
    return since <= time && time <= until;
  }
  bool has_all() const {
    return since == std::numeric_limits<std::int64_t>::min() &&
           until == std::numeric_limits<std::int64_t>::max();
  }
};

/// Rows of `prefix newest_first rest` between the window's times, in order; `take` gets
/// `newest_first rest` and the value, and says whether it wants another.
template <class Take>
void walk_times(lmdb::transaction& in, lmdb::table index, const std::string& prefix,
                const window& wanted, Take&& take) {
  const auto last = keys::newest_first(wanted.since);
  lmdb::cursor at{in, index};
  for (bool more = at.seek(prefix + keys::newest_first(wanted.until));
       more && at.key().starts_with(prefix); more = at.next()) {
    const auto rest = at.key().substr(prefix.size());
    if (rest.substr(0, keys::time_bytes) > last || !take(rest, at.value())) {
      return;
    }
  }
}

/// The rows of one page.
template <class Take>
void walk_newest_first(lmdb::transaction& in, lmdb::table index, const std::string& prefix,
                       const window& wanted, Take&& take) {
  if (wanted.limit == 0) {
    return;
  }
  std::uint64_t skipped = 0;
  std::uint32_t taken = 0;
  walk_times(in, index, prefix, wanted, [&](std::string_view rest, std::string_view value) {
    if (skipped < wanted.offset) {
      ++skipped;
      return true;
    }
    take(rest, value);
    return ++taken < wanted.limit;
  });
}

/// One row of an image listing, by reference.
struct image_ref {
  uuid image;
  std::string tag;
};

/// The rows of a page of images. Its project has a valid name.
std::vector<image_ref> find_images(lmdb::transaction& in, const tables& t,
                                   proto::ListImages::Reader request);

} // namespace coppice::storage
