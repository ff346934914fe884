#include "storage/catalog_upgrade.hpp"

#include "storage/catalog_events.hpp"
#include "storage/catalog_keys.hpp"
#include "storage/catalog_lineage.hpp"
#include "storage/catalog_operations.hpp"
#include "storage/catalog_usage.hpp"
#include "storage/error.hpp"

#include <optional>
#include <string>
#include <vector>

namespace coppice::storage {

namespace {

/// The next keys of `over`, the first one with `from` or behind it.
std::vector<uuid> next_ids(lmdb::transaction& in, lmdb::table over, const std::string& from,
                           std::size_t ids_max) {
  std::vector<uuid> ids;
  lmdb::cursor at{in, over};
  for (bool more = at.seek(from); more && ids.size() < ids_max; more = at.next()) {
    ids.push_back(keys::id_of(at.key()));
  }
  return ids;
}

/// `make(in, id)` for each id of `over`, in transactions of `batch_records`.
template <class Make>
result<void> for_each_id(const lmdb::environment& env, lmdb::table over, std::size_t batch_records,
                         Make&& make) {
  auto from = keys::of({});
  for (;;) {
    auto in = lmdb::transaction::begin(env, lmdb::mode::write);
    if (!in) {
      return in.error();
    }
    const auto ids = next_ids(*in, over, from, batch_records);
    auto made = guarded<void>("upgrade of the catalog", [&]() -> result<void> {
      for (const auto& id : ids) {
        make(*in, id);
      }
      return {};
    });
    if (!made) {
      return made.error();
    }
    if (auto done = in->commit(); !done || ids.size() < batch_records) {
      return done;
    }
    from = keys::of(ids.back()) + '\0'; // the first key behind it
  }
}

void make_image_file(lmdb::transaction& in, const tables& t, const uuid& image) {
  auto record = load<proto::ImageRecord>(in, t.images, keys::of(image));
  if (!record.empty()) {
    insert_image_file(in, t, image, uuid::from(record.view()->getParent()));
  }
}

void make_event_log(lmdb::transaction& in, const tables& t, const uuid& operation) {
  auto row = load_operation_row(in, t, operation);
  if (!row.empty()) {
    insert_log(in, t, *row.view());
  }
}

} // namespace

result<void> upgrade(const lmdb::environment& env, const tables& t, std::uint64_t from,
                     std::size_t batch_records) {
  if (from < 2) {
    auto made = for_each_id(env, t.images, batch_records,
                            [&](auto& in, const uuid& image) { make_image_file(in, t, image); });
    if (!made) {
      return made.error();
    }
  }
  if (from < 3) {
    auto made = for_each_id(env, t.operations, batch_records, [&](auto& in, const uuid& operation) {
      make_event_log(in, t, operation);
    });
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
  tables::set_version(*in, t.meta);
  return in->commit();
}

} // namespace coppice::storage
