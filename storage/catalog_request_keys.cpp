#include "storage/catalog_request_keys.hpp"

#include "storage/catalog.hpp"
#include "storage/catalog_impl.hpp"
#include "storage/catalog_keys.hpp"
#include "storage/catalog_operations.hpp"
#include "storage/error.hpp"

#include <chrono>
#include <string>

namespace coppice::storage {

namespace {

/// Forgotten with each that comes: more than one, so that a flood of a day ends.
constexpr int forgotten_at_once = 4;

std::uint64_t count_of(lmdb::transaction& in, const tables& t, const std::string& scope) {
  const auto stored = in.get(t.request_keys, scope);
  return stored && stored->size() == sizeof(std::uint64_t) ? keys::number_of(*stored) : 0;
}

std::int64_t unix_now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// How many of the project's oldest were too old.
std::uint64_t forget_old(lmdb::transaction& in, const tables& t, const std::string& scope,
                         std::int64_t now_unix_ns) {
  std::uint64_t forgotten = 0;
  for (int i = 0; i < forgotten_at_once; ++i) {
    std::string oldest;
    {
      lmdb::cursor at{in, t.request_key_ages};
      if (!at.seek(scope) || !at.key().starts_with(scope)) {
        break;
      }
      oldest = at.key();
    }
    const auto age_and_digest = std::string_view{oldest}.substr(scope.size());
    if (keys::time_of_oldest_first(age_and_digest) + request_key_age_max_ns > now_unix_ns) {
      break;
    }
    in.erase(t.request_key_ages, oldest);
    in.erase(t.request_keys, scope + std::string{age_and_digest.substr(keys::time_bytes)});
    ++forgotten;
  }
  return forgotten;
}

frame<proto::RequestKeyRecord> load_fresh(lmdb::transaction& in, const tables& t,
                                          const std::string& row_key, std::int64_t now_unix_ns) {
  auto stored = load<proto::RequestKeyRecord>(in, t.request_keys, row_key);
  if (!stored.empty() && stored.view()->getAtUnixNs() + request_key_age_max_ns <= now_unix_ns) {
    return {};
  }
  return stored;
}

} // namespace

std::optional<known_request> find_request(lmdb::transaction& in, const tables& t,
                                          std::string_view project, proto::RequestKey::Reader key,
                                          std::int64_t now_unix_ns) {
  if (!keys::is_project(project) || key.getKey().size() != keys::digest_bytes) {
    return std::nullopt;
  }
  auto stored = load_fresh(in, t, keys::project_key(project) + std::string{view_of(key.getKey())},
                           now_unix_ns);
  if (stored.empty()) {
    return std::nullopt;
  }
  auto record = stored.view();
  return known_request{view_of(record->getDigest()) == view_of(key.getDigest()),
                       uuid::from(record->getOperation())};
}

result<void> remember_request(lmdb::transaction& in, const tables& t, std::string_view project,
                              proto::RequestKey::Reader key, const uuid& operation,
                              std::int64_t now_unix_ns, std::uint64_t keys_max) {
  if (key.getKey().size() == 0) {
    return {};
  }
  if (key.getKey().size() != keys::digest_bytes || key.getDigest().size() != keys::digest_bytes) {
    return fail(ec::unsupported, "the digest of a request's name has 32 bytes");
  }
  if (auto known = find_request(in, t, project, key, now_unix_ns)) {
    if (known->is_same && !known->operation && !operation) {
      return {};
    }
    return fail(ec::conflict, "the Idempotency-Key was used for another request within a day");
  }
  const auto scope = keys::project_key(project);
  const auto row_key = scope + std::string{view_of(key.getKey())};
  auto count = count_of(in, t, scope);
  if (auto old = load<proto::RequestKeyRecord>(in, t.request_keys, row_key); !old.empty()) {
    in.erase(t.request_key_ages, scope + keys::oldest_first(old.view()->getAtUnixNs()) +
                                     std::string{view_of(key.getKey())});
    in.erase(t.request_keys, row_key);
    --count;
  }
  count -= forget_old(in, t, scope, now_unix_ns);
  const bool is_full = count >= keys_max;
  in.put(t.request_keys, scope, keys::big_endian(count + (is_full ? 0 : 1)));
  if (is_full) {
    return fail(ec::busy, "the project has sent " + std::to_string(keys_max) +
                              " Idempotency-Keys within a day, which is as many as are remembered; "
                              "nothing was done, send the request without one or later");
  }
  store(in, t.request_keys, row_key,
        make_frame<proto::RequestKeyRecord>([&](proto::RequestKeyRecord::Builder to) {
          to.setDigest(key.getDigest());
          operation.to(to.initOperation());
          to.setAtUnixNs(now_unix_ns);
        }));
  in.put(t.request_key_ages,
         scope + keys::oldest_first(now_unix_ns) + std::string{view_of(key.getKey())}, {});
  return {};
}

// -- reading -------------------------------------------------------------------------------------

result<frame<proto::FoundRequest>> catalog::find_request(proto::FindRequest::Reader request) const {
  using answer = frame<proto::FoundRequest>;
  return impl_->read<answer>("find request", [&](lmdb::transaction& in) -> result<answer> {
    const auto known = storage::find_request(in, impl_->t, view_of(request.getProject()),
                                             request.getKey(), unix_now_ns());
    if (!known) {
      return fail(ec::not_found, "no such request");
    }
    frame<proto::OperationRecord> record;
    if (known->operation) {
      auto row = load_operation_row(in, impl_->t, known->operation);
      if (row.empty()) {
        return fail(ec::damaged,
                    "a request's operation " + known->operation.text() + " is not in the catalog");
      }
      record = load_whole_operation(in, impl_->t, row);
    }
    return make_frame<proto::FoundRequest>([&](proto::FoundRequest::Builder to) {
      to.setSame(known->is_same);
      if (!record.empty()) {
        auto view = record.view();
        to.setOperation(*view);
      }
    });
  });
}

} // namespace coppice::storage
