#include "storage/catalog_lineage.hpp"

#include "storage/catalog.hpp"
#include "storage/catalog_impl.hpp"
#include "storage/catalog_keys.hpp"

namespace coppice::storage {

namespace {

std::string pair_key(const uuid& first, const uuid& second) {
  return keys::of(first) + keys::of(second);
}

bool has_any(lmdb::transaction& in, lmdb::table table, const uuid& first) {
  lmdb::cursor at{in, table};
  return at.seek(keys::of(first)) && at.key().starts_with(keys::of(first));
}

/// The last part of each key of `table` with that prefix, behind `after`.
std::vector<uuid> ids_behind(lmdb::transaction& in, lmdb::table table, std::string_view prefix,
                             const uuid& after, std::size_t ids_max) {
  std::vector<uuid> ids;
  std::string from{prefix};
  from += keys::of(after);
  lmdb::cursor at{in, table};
  for (bool more = at.seek(from); more && ids.size() < ids_max && at.key().starts_with(prefix);
       more = at.next()) {
    if (auto id = keys::id_of(at.key().substr(prefix.size())); id != after) {
      ids.push_back(id);
    }
  }
  return ids;
}

/// Of an image that is not live, if no live one stands on it.
void drop_index(lmdb::transaction& in, const tables& t, const uuid& image) {
  if (!in.has(t.images, keys::of(image)) && !has_any(in, t.index_users, image)) {
    in.erase(t.indexes, keys::of(image));
  }
}

} // namespace

result<void> check_lineage(lmdb::transaction& in, const tables& t,
                           proto::ImageRecord::Reader record, given_index index) {
  const auto id = uuid::from(record.getId());
  if (in.has(t.image_files, keys::of(id))) {
    return fail(ec::conflict, "image " + id.text() + " was deleted, but its file is needed");
  }
  const auto parent = uuid::from(record.getParent());
  if (parent && !in.has(t.images, keys::of(parent))) {
    return fail(ec::conflict,
                "image " + id.text() + ": its parent " + parent.text() + " is not there");
  }
  if (!index) {
    return {};
  }
  if (index->getExtents().size() == 0) {
    return fail(ec::unsupported, "image " + id.text() + ": its index is empty");
  }
  const auto checkpoint = uuid::from(index->getCheckpoint());
  if (!checkpoint) {
    return {};
  }
  auto below = load<proto::ImageIndex>(in, t.indexes, keys::of(checkpoint));
  if (below.empty() || uuid::from(below.view()->getCheckpoint())) {
    return fail(ec::conflict, "image " + id.text() + ": its index stands on image " +
                                  checkpoint.text() + ", which has no checkpoint");
  }
  return {};
}

void insert_image_file(lmdb::transaction& in, const tables& t, const uuid& image,
                       const uuid& parent) {
  in.put(t.image_files, keys::of(image), keys::of(parent));
  if (parent) {
    in.put(t.image_file_children, pair_key(parent, image), {});
  }
}

void insert_lineage(lmdb::transaction& in, const tables& t, proto::ImageRecord::Reader record,
                    given_index index) {
  const auto id = uuid::from(record.getId());
  insert_image_file(in, t, id, uuid::from(record.getParent()));
  if (!index) {
    return;
  }
  store(in, t.indexes, keys::of(id), copy_frame<proto::ImageIndex>(*index));
  if (const auto checkpoint = uuid::from(index->getCheckpoint())) {
    in.put(t.index_users, pair_key(checkpoint, id), {});
  }
}

namespace {

/// Nil: it stands on none, or a failure.
uuid parent_file(lmdb::transaction& in, const tables& t, const uuid& image) {
  auto parent = in.get(t.image_files, keys::of(image));
  if (!parent || parent->size() != keys::id_bytes) {
    in.fail_with(fail(ec::damaged, "the catalog does not know the file of image " + image.text()));
    return {};
  }
  return keys::id_of(*parent);
}

} // namespace

image_deletion erase_lineage(lmdb::transaction& in, const tables& t, const uuid& image) {
  image_deletion out;
  auto index = load<proto::ImageIndex>(in, t.indexes, keys::of(image));
  if (!index.empty()) {
    drop_index(in, t, image);
    if (const auto checkpoint = uuid::from(index.view()->getCheckpoint())) {
      in.erase(t.index_users, pair_key(checkpoint, image));
      drop_index(in, t, checkpoint);
    }
  }
  in.put(t.dead_image_files, keys::of(image), {});
  for (auto at = image; at && in.has(t.dead_image_files, keys::of(at)) && !in.failed();) {
    const auto next = parent_file(in, t, at);
    if (has_any(in, t.image_file_children, at)) {
      out.dead.push_back(at);
    } else {
      in.erase(t.image_files, keys::of(at));
      in.erase(t.dead_image_files, keys::of(at));
      if (next) {
        in.erase(t.image_file_children, pair_key(next, at));
      }
      out.gone.push_back(at);
    }
    at = next;
  }
  return out;
}

// -- reading -------------------------------------------------------------------------------------

result<frame<proto::ImageIndex>> catalog::get_index(const uuid& image) const {
  using answer = frame<proto::ImageIndex>;
  return impl_->read<answer>("get index", [&](lmdb::transaction& in) -> result<answer> {
    auto index = load<proto::ImageIndex>(in, impl_->t.indexes, keys::of(image));
    if (index.empty()) {
      return fail(ec::not_found, "no block index of image " + image.text());
    }
    return index;
  });
}

bool catalog::has_image_file(const uuid& image) const {
  auto found = impl_->read<bool>("has image file", [&](lmdb::transaction& in) -> result<bool> {
    return in.has(impl_->t.image_files, keys::of(image));
  });
  // A catalog that cannot be read must not make anyone delete a file.
  return found ? *found : true;
}

result<std::vector<uuid>> catalog::list_dead_files(const uuid& after) const {
  using answer = std::vector<uuid>;
  return impl_->read<answer>("list dead files", [&](lmdb::transaction& in) -> result<answer> {
    return ids_behind(in, impl_->t.dead_image_files, {}, after, page_rows_max);
  });
}

result<std::vector<uuid>> catalog::list_child_files(const uuid& image, const uuid& after) const {
  using answer = std::vector<uuid>;
  return impl_->read<answer>("list child files", [&](lmdb::transaction& in) -> result<answer> {
    return ids_behind(in, impl_->t.image_file_children, keys::of(image), after, page_rows_max);
  });
}

} // namespace coppice::storage
