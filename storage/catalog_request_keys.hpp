#pragma once

#include "protocol/messages.capnp.h"
#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/catalog_tables.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

/// Requests that clients gave a name, so that they can be sent again without being carried out
/// twice.
///
/// Problem: a client that lost the answer sends its request again, perhaps after the daemon was
/// killed. Whether it was carried out must be decided where its effect became durable.
///
/// Guarantee: a name is remembered in the transaction that makes the effect durable, for a day.
/// What is older is forgotten, a little with each new one; a project has a bounded number.
/// Failures are the transaction's, if not said otherwise.
namespace coppice::storage {

inline constexpr std::int64_t request_key_age_max_ns = 24ll * 3600 * 1'000'000'000;
/// In one project: some 150 MB.
inline constexpr std::uint64_t request_keys_max = 1'000'000;

struct known_request {
  bool is_same = false; ///< as the one that is asked about
  uuid operation;       ///< nil: it started none
};

/// Nothing: it is not known, or was remembered longer ago than a day.
std::optional<known_request> find_request(lmdb::transaction& in, const tables& t,
                                          std::string_view project, proto::RequestKey::Reader key,
                                          std::int64_t now_unix_ns);

/// Remembers; without a name nothing. `operation` nil: whoever sends the same again is welcome.
/// conflict: it is known, and with an operation or as another request; busy: the project has too
/// many; unsupported: a digest that is none.
result<void> remember_request(lmdb::transaction& in, const tables& t, std::string_view project,
                              proto::RequestKey::Reader key, const uuid& operation,
                              std::int64_t now_unix_ns, std::uint64_t keys_max = request_keys_max);

} // namespace coppice::storage
