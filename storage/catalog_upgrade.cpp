#include "storage/catalog_upgrade.hpp"

#include "storage/catalog_events.hpp"
#include "storage/catalog_keys.hpp"
#include "storage/catalog_lineage.hpp"
#include "storage/catalog_operations.hpp"
#include "storage/catalog_usage.hpp"
#include "storage/catalog_users.hpp"
#include "storage/error.hpp"

#include <optional>
#include <string>
#include <vector>

namespace coppice::storage {

namespace {

/// The next keys of `over`, the first one with `from` or behind it.
std::vector<std::string> next_keys(lmdb::transaction& in, lmdb::table over, const std::string& from,
                                   std::size_t keys_max) {
  std::vector<std::string> found;
  lmdb::cursor at{in, over};
  for (bool more = at.seek(from); more && found.size() < keys_max; more = at.next()) {
    found.emplace_back(at.key());
  }
  return found;
}

/// `make(in, key)` for each key of `over`, in transactions of `batch_records`.
template <class Make>
result<void> for_each_key(const lmdb::environment& env, lmdb::table over, std::size_t batch_records,
                          Make&& make) {
  std::string from(1, '\0');
  for (;;) {
    auto in = lmdb::transaction::begin(env, lmdb::mode::write);
    if (!in) {
      return in.error();
    }
    const auto batch = next_keys(*in, over, from, batch_records);
    auto made = guarded<void>("upgrade of the catalog", [&]() -> result<void> {
      for (const auto& key : batch) {
        make(*in, key);
      }
      return {};
    });
    if (!made) {
      return made.error();
    }
    if (auto done = in->commit(); !done || batch.size() < batch_records) {
      return done;
    }
    from = batch.back() + '\0'; // the first key behind it
  }
}

void make_image_file(lmdb::transaction& in, const tables& t, const std::string& key) {
  auto record = load<proto::ImageRecord>(in, t.images, key);
  if (!record.empty()) {
    insert_image_file(in, t, keys::id_of(key), uuid::from(record.view()->getParent()));
  }
}

void make_event_log(lmdb::transaction& in, const tables& t, const std::string& key) {
  auto row = load_operation_row(in, t, keys::id_of(key));
  if (!row.empty()) {
    insert_log(in, t, *row.view());
  }
}

/// The row in the index was empty.
void make_listed_file(lmdb::transaction& in, const tables& t, const std::string& key) {
  auto record = load<proto::FileRecord>(in, t.files, key);
  if (!record.empty()) {
    auto v = record.view();
    store(in, t.file_index,
          keys::project_key(view_of(v->getProject())) +
              keys::newest_first(v->getUpdatedAtUnixNs()) + std::string{view_of(v->getSha256())},
          record);
  }
}

} // namespace

result<void> upgrade(const lmdb::environment& env, const tables& t, std::uint64_t from,
                     std::size_t batch_records) {
  struct step {
    std::uint64_t version; ///< that needs it
    lmdb::table over;
    void (*make)(lmdb::transaction&, const tables&, const std::string&);
  };
  const step steps[] = {
      {2, t.images, make_image_file},
      {3, t.operations, make_event_log},
      {3, t.files, make_listed_file},
  };
  for (const auto& one : steps) {
    if (from >= one.version) {
      continue;
    }
    auto made = for_each_key(env, one.over, batch_records,
                             [&](auto& in, const std::string& key) { one.make(in, t, key); });
    if (!made) {
      return made.error();
    }
  }
  auto in = lmdb::transaction::begin(env, lmdb::mode::write);
  if (!in) {
    return in.error();
  }
  if (from < 4) {
    if (auto made = make_usage(*in, t); !made) {
      return made.error();
    }
  }
  if (from < 5) {
    if (auto made = make_users(*in, t); !made) {
      return made.error();
    }
  }
  tables::set_version(*in, t.meta);
  return in->commit();
}

} // namespace coppice::storage
