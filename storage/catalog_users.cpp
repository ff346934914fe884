#include "storage/catalog_users.hpp"

#include "storage/catalog_keys.hpp"
#include "storage/catalog_operations.hpp"

#include <string>

namespace coppice::storage {

namespace {

/// The image that an operation needs until it has ended; nil: none.
uuid image_needed_by(proto::OperationRecord::Reader record) {
  if (is_terminal(record.getStatus()) || !record.getRequest().isInstance()) {
    return {};
  }
  return uuid::from(record.getRequest().getInstance().getImage());
}

std::string user_key(const uuid& image, proto::OperationRecord::Reader record) {
  return keys::of(image) + keys::of(uuid::from(record.getId()));
}

} // namespace

void follow_image_user(lmdb::transaction& in, const tables& t,
                       const frame<proto::OperationRecord>& before,
                       proto::OperationRecord::Reader record) {
  const auto old = before.empty() ? uuid{} : image_needed_by(*before.view());
  const auto now = image_needed_by(record);
  if (old == now) {
    return;
  }
  if (old) {
    in.erase(t.image_users, user_key(old, record));
  }
  if (now) {
    in.put(t.image_users, user_key(now, record), {});
  }
}

std::optional<uuid> find_image_user(lmdb::transaction& in, const tables& t, const uuid& image) {
  lmdb::cursor at{in, t.image_users};
  if (!at.seek(keys::of(image)) || !at.key().starts_with(keys::of(image))) {
    return std::nullopt;
  }
  return keys::id_of(at.key().substr(keys::id_bytes));
}

void insert_blob_user(lmdb::transaction& in, const tables& t, std::string_view digest,
                      std::string_view project) {
  std::string key{digest};
  key += project;
  in.put(t.blob_users, key, {});
}

bool has_blob_user(lmdb::transaction& in, const tables& t, std::string_view digest) {
  lmdb::cursor at{in, t.blob_users};
  return at.seek(digest) && at.key().starts_with(digest);
}

result<void> make_users(lmdb::transaction& in, const tables& t) {
  return guarded<void>("users of images and blobs", [&]() -> result<void> {
    {
      lmdb::cursor at{in, t.unfinished};
      for (bool more = at.seek(keys::oldest_first(INT64_MIN)); more; more = at.next()) {
        auto row = load_operation_row(in, t, keys::id_of(at.key().substr(keys::time_bytes)));
        if (!row.empty()) {
          follow_image_user(in, t, {}, *row.view());
        }
      }
    }
    lmdb::cursor at{in, t.files};
    for (bool more = at.seek(std::string(1, '\0')); more; more = at.next()) {
      const auto key = at.key();
      if (key.size() <= keys::digest_bytes) {
        return fail(ec::damaged, "the catalog has a file under a key that is too short");
      }
      // The value in the map holds until the next write: the key is copied first.
      const std::string digest{key.substr(key.size() - keys::digest_bytes)};
      auto record = load<proto::FileRecord>(in, t.files, key);
      if (record.empty()) {
        break;
      }
      insert_blob_user(in, t, digest, view_of(record.view()->getProject()));
    }
    return in.failed() ? result<void>{*in.failed()} : result<void>{};
  });
}

} // namespace coppice::storage
