#include "storage/catalog_images.hpp"

#include "storage/catalog_keys.hpp"
#include "storage/catalog_usage.hpp"

#include <algorithm>

namespace coppice::storage {

namespace {

std::string row_key(std::string_view project, row_scope scope, const tag_target& image,
                    std::string_view tag) {
  auto key = image_index_prefix(project, scope);
  key += keys::newest_first(image.created_unix_ns);
  key += keys::of(image.image);
  key += tag;
  return key;
}

void put_row(lmdb::transaction& in, const tables& t, std::string_view project,
             const tag_target& image, std::string_view tag) {
  in.put(t.image_index, row_key(project, row_scope::all, image, tag), {});
  if (!tag.empty()) {
    in.put(t.image_index, row_key(project, row_scope::tagged, image, tag), {});
  }
}

void erase_row(lmdb::transaction& in, const tables& t, std::string_view project,
               const tag_target& image, std::string_view tag) {
  in.erase(t.image_index, row_key(project, row_scope::all, image, tag));
  if (!tag.empty()) {
    in.erase(t.image_index, row_key(project, row_scope::tagged, image, tag));
  }
}

std::string tag_key(std::string_view project, std::string_view tag) {
  auto key = keys::project_key(project);
  key += tag;
  return key;
}

std::string source_key(proto::ImageRecord::Reader image) {
  auto key = keys::project_key(view_of(image.getProject()));
  key += view_of(image.getSourceDigest());
  key += '\0';
  key += keys::newest_first(image.getCreatedAtUnixNs());
  key += keys::of(uuid::from(image.getId()));
  return key;
}

std::string image_tag_key(const uuid& image, std::string_view tag) {
  auto key = keys::of(image);
  key += tag;
  return key;
}

} // namespace

std::string image_index_prefix(std::string_view project, row_scope scope) {
  auto key = keys::project_key(project);
  key += static_cast<char>(scope);
  return key;
}

tag_target target_of(std::string_view tags_value) {
  return {keys::id_of(tags_value), keys::time_of_newest_first(tags_value.substr(keys::id_bytes))};
}

std::optional<tag_target> find_tag(lmdb::transaction& in, const tables& t, std::string_view project,
                                   std::string_view tag) {
  auto value = in.get(t.tags, tag_key(project, tag));
  if (!value) {
    return std::nullopt;
  }
  if (value->size() != keys::id_bytes + keys::time_bytes) {
    in.fail_with(
        fail(ec::damaged, "the catalog's entry of tag " + std::string{tag} + " is not an image"));
    return std::nullopt;
  }
  return target_of(*value);
}

std::optional<std::string> next_tag(lmdb::transaction& in, const tables& t, const uuid& image,
                                    std::string_view after) {
  auto from = image_tag_key(image, after);
  from += '\0'; // the first key behind it: a tag has no NUL and is not empty
  lmdb::cursor at{in, t.image_tags};
  if (!at.seek(from) || !at.key().starts_with(keys::of(image))) {
    return std::nullopt;
  }
  return std::string{at.key().substr(keys::id_bytes)};
}

frame<proto::ImageRecord> load_image(lmdb::transaction& in, const tables& t,
                                     std::string_view project, const uuid& id) {
  auto image = load<proto::ImageRecord>(in, t.images, keys::of(id));
  if (image.empty() || view_of(image.view()->getProject()) != project) {
    return {};
  }
  return image;
}

frame<proto::ImageRow> make_image_row(proto::ImageRecord::Reader image, std::string_view tag) {
  return make_frame<proto::ImageRow>([&](proto::ImageRow::Builder row) {
    row.setImage(image);
    std::copy(tag.begin(), tag.end(), row.initTag(static_cast<unsigned>(tag.size())).begin());
  });
}

void insert_image(lmdb::transaction& in, const tables& t, proto::ImageRecord::Reader record) {
  change_usage(in, t, view_of(record.getProject()), usage_of(record));
  const auto id = uuid::from(record.getId());
  const auto project = view_of(record.getProject());
  store(in, t.images, keys::of(id), copy_frame<proto::ImageRecord>(record));
  put_row(in, t, project, {id, record.getCreatedAtUnixNs()}, {});
  if (record.getSourceDigest().size() != 0) {
    in.put(t.sources, source_key(record), {});
  }
}

void erase_image(lmdb::transaction& in, const tables& t, proto::ImageRecord::Reader record) {
  change_usage(in, t, view_of(record.getProject()), -usage_of(record));
  const auto id = uuid::from(record.getId());
  erase_row(in, t, view_of(record.getProject()), {id, record.getCreatedAtUnixNs()}, {});
  if (record.getSourceDigest().size() != 0) {
    in.erase(t.sources, source_key(record));
  }
  in.erase(t.images, keys::of(id));
}

void attach_tag(lmdb::transaction& in, const tables& t, proto::ImageRecord::Reader image,
                std::string_view tag) {
  const auto project = view_of(image.getProject());
  const tag_target target{uuid::from(image.getId()), image.getCreatedAtUnixNs()};
  if (auto before = find_tag(in, t, project, tag)) {
    if (before->image == target.image) {
      return;
    }
    detach_tag(in, t, project, before->image, tag);
  }
  if (!next_tag(in, t, target.image)) {
    erase_row(in, t, project, target, {});
  }
  in.put(t.tags, tag_key(project, tag),
         keys::of(target.image) + keys::newest_first(target.created_unix_ns));
  in.put(t.image_tags, image_tag_key(target.image, tag), {});
  put_row(in, t, project, target, tag);
}

bool detach_tag(lmdb::transaction& in, const tables& t, std::string_view project, const uuid& image,
                std::string_view tag) {
  auto target = find_tag(in, t, project, tag);
  if (!target || target->image != image) {
    return false;
  }
  in.erase(t.tags, tag_key(project, tag));
  in.erase(t.image_tags, image_tag_key(image, tag));
  erase_row(in, t, project, *target, tag);
  if (!next_tag(in, t, image)) {
    put_row(in, t, project, *target, {});
  }
  return true;
}

} // namespace coppice::storage
