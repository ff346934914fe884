#include "storage/catalog.hpp"
#include "storage/catalog_impl.hpp"
#include "storage/catalog_keys.hpp"
#include "storage/catalog_users.hpp"

#include <algorithm>
#include <string>

namespace coppice::storage {

namespace {

/// The first key behind that of `after`; ids have one length.
std::string behind(const uuid& after) {
  return keys::of(after) + '\0';
}

catalog::file_row file_row_of(lmdb::transaction& in, const tables& t, std::string_view key,
                              std::string_view value) {
  const auto image = keys::id_of(key);
  if (value.size() != keys::id_bytes) {
    in.fail_with(fail(ec::damaged, "the catalog does not know the file of image " + image.text()));
    return {};
  }
  const auto parent = keys::id_of(value);
  return {image, parent, in.has(t.images, keys::of(image)),
          in.has(t.dead_image_files, keys::of(image))};
}

} // namespace

result<std::vector<catalog::file_row>> catalog::list_image_files(const uuid& after) const {
  using answer = std::vector<file_row>;
  return impl_->read<answer>("list image files", [&](lmdb::transaction& in) -> result<answer> {
    answer rows;
    lmdb::cursor at{in, impl_->t.image_files};
    for (bool more = at.seek(behind(after)); more && rows.size() < page_rows_max;
         more = at.next()) {
      rows.push_back(file_row_of(in, impl_->t, at.key(), at.value()));
    }
    return rows;
  });
}

result<catalog::file_row> catalog::get_image_file(const uuid& image) const {
  using answer = file_row;
  return impl_->read<answer>("get image file", [&](lmdb::transaction& in) -> result<answer> {
    auto parent = in.get(impl_->t.image_files, keys::of(image));
    if (!parent) {
      return fail(ec::not_found, "no file of image " + image.text());
    }
    return file_row_of(in, impl_->t, keys::of(image), *parent);
  });
}

result<std::vector<catalog::image_link>> catalog::list_image_links(const uuid& after) const {
  using answer = std::vector<image_link>;
  return impl_->read<answer>("list images", [&](lmdb::transaction& in) -> result<answer> {
    answer rows;
    lmdb::cursor at{in, impl_->t.images};
    for (bool more = at.seek(behind(after)); more && rows.size() < page_rows_max;
         more = at.next()) {
      auto record = load<proto::ImageRecord>(in, impl_->t.images, at.key());
      if (record.empty()) {
        return fail(ec::damaged, "the record of image " + keys::id_of(at.key()).text());
      }
      rows.push_back({keys::id_of(at.key()), uuid::from(record.view()->getParent())});
    }
    return rows;
  });
}

result<std::vector<catalog::blob_row>> catalog::list_blobs(std::string_view after_key) const {
  using answer = std::vector<blob_row>;
  return impl_->read<answer>("list blobs", [&](lmdb::transaction& in) -> result<answer> {
    answer rows;
    const auto from = std::string{after_key} + '\0';
    lmdb::cursor at{in, impl_->t.files};
    for (bool more = at.seek(from); more && rows.size() < page_rows_max; more = at.next()) {
      auto record = load<proto::FileRecord>(in, impl_->t.files, at.key());
      const auto key = at.key();
      if (record.empty() || key.size() < keys::digest_bytes) {
        return fail(ec::damaged, "a record of an uploaded file");
      }
      blob_row row{std::string{key}, {}, record.view()->getSizeBytes()};
      std::copy_n(key.end() - keys::digest_bytes, keys::digest_bytes, row.digest.begin());
      rows.push_back(std::move(row));
    }
    return rows;
  });
}

result<bool> catalog::has_blob(const sha256& digest) const {
  return impl_->read<bool>("has blob", [&](lmdb::transaction& in) -> result<bool> {
    return has_blob_user(in, impl_->t,
                         {reinterpret_cast<const char*>(digest.data()), digest.size()});
  });
}

result<void> catalog::copy_to(const std::filesystem::path& dir) const {
  return impl_->env.copy_to(dir);
}

} // namespace coppice::storage
