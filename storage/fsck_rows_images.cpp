#include "protocol/records.capnp.h"
#include "storage/catalog_images.hpp"
#include "storage/fsck_rows.hpp"

namespace coppice::storage {

namespace {

constexpr std::size_t scope_bytes = 1;

using image_record = proto::ImageRecord::Reader;

std::string source_key(image_record image) {
  return keys::project_key(view_of(image.getProject())) +
         std::string{view_of(image.getSourceDigest())} + '\0' +
         keys::newest_first(image.getCreatedAtUnixNs()) + keys::of(uuid::from(image.getId()));
}

std::string tag_key(std::string_view project, std::string_view tag) {
  return keys::project_key(project) + std::string{tag};
}

bool points_at(const catalog_row& row, std::string_view project, std::string_view tag,
               const uuid& image) {
  const auto target = row.in.get(row.t.tags, tag_key(project, tag));
  return target && target->starts_with(keys::of(image));
}

/// How the image of a row differs from what the row says; empty: it does not.
std::string image_differs(const frame<proto::ImageRecord>& image, std::string_view project,
                          std::int64_t created_unix_ns) {
  if (image.empty()) {
    return "which is not there";
  }
  auto record = image.view();
  if (view_of(record->getProject()) != project) {
    return "which belongs to project " + printable(view_of(record->getProject()));
  }
  if (record->getCreatedAtUnixNs() != created_unix_ns) {
    return "made at " + std::to_string(created_unix_ns) + "; its record says " +
           std::to_string(record->getCreatedAtUnixNs());
  }
  return {};
}

} // namespace

/// One row in the listing of all without a tag, or one for each tag; those with a tag are missed
/// where the tag is looked at.
std::string look_at_image(const catalog_row& row) {
  if (row.key.size() != keys::id_bytes || !is_message(row.value)) {
    return odd_row("images", row.key);
  }
  const auto id = keys::id_of(row.key);
  const auto record = record_in<proto::ImageRecord>(row.in, row.value);
  auto image = record.view();
  const auto project = view_of(image->getProject());
  row_findings found{"catalog: image " + id.text()};
  if (uuid::from(image->getId()) != id) {
    found.add("has the record of image " + uuid::from(image->getId()).text());
    return found.line();
  }
  const auto listed = image_index_prefix(project, row_scope::all) +
                      keys::newest_first(image->getCreatedAtUnixNs()) + keys::of(id);
  const auto tag = next_tag(row.in, row.t, id);
  if (row.in.has(row.t.image_index, listed)) {
    if (tag) {
      found.add("has the tag " + printable(*tag) + ", but is listed as one without");
    }
  } else if (!tag && !has_any(row, row.t.image_index, listed)) {
    found.add("is missing in the listing of project " + printable(project));
  }
  if (image->getSourceDigest().size() != 0 && !row.in.has(row.t.sources, source_key(*image))) {
    found.add("is missing among the imports of " + printable(view_of(image->getSourceDigest())) +
              " in project " + printable(project));
  }
  return found.line();
}

std::string look_at_listed_image(const catalog_row& row) {
  constexpr auto fixed_bytes = scope_bytes + keys::time_bytes + keys::id_bytes;
  project_row at;
  if (!split(row.key, fixed_bytes, at)) {
    return odd_row("image_index", row.key);
  }
  const auto id = keys::id_of(at.rest.substr(scope_bytes + keys::time_bytes));
  const auto tag = at.rest.substr(fixed_bytes);
  const bool is_of_tagged = at.rest[0] == static_cast<char>(row_scope::tagged);
  if ((!is_of_tagged && at.rest[0] != static_cast<char>(row_scope::all)) ||
      (is_of_tagged && tag.empty())) {
    return odd_row("image_index", row.key);
  }
  const auto name = std::string{"catalog: the listing of "} +
                    (is_of_tagged ? "tagged images" : "images") + " in project " +
                    printable(at.project) + " has image " + id.text() +
                    (tag.empty() ? std::string{} : " with the tag " + printable(tag)) + ", ";
  const auto record = record_at<proto::ImageRecord>(row, row.t.images, keys::of(id));
  if (const auto what = image_differs(record, at.project,
                                      keys::time_of_newest_first(at.rest.substr(scope_bytes)));
      !what.empty()) {
    return name + what;
  }
  const bool is_true = tag.empty() || points_at(row, at.project, tag, id) ||
                       row.in.has(row.t.image_tags, keys::of(id) + std::string{tag});
  return is_true ? std::string{} : name + "which does not have that tag";
}

std::string look_at_tag(const catalog_row& row) {
  project_row at;
  if (!split(row.key, 1, at) || row.value.size() != keys::id_bytes + keys::time_bytes) {
    return odd_row("tags", row.key);
  }
  const auto target = target_of(row.value);
  const auto tag = std::string{at.rest};
  row_findings found{"catalog: the tag " + printable(tag) + " of project " + printable(at.project) +
                     " points to image " + target.image.text() + ","};
  const auto record = record_at<proto::ImageRecord>(row, row.t.images, keys::of(target.image));
  const auto what = image_differs(record, at.project, target.created_unix_ns);
  if (!what.empty()) {
    found.add(what);
    return found.line();
  }
  if (!row.in.has(row.t.image_tags, keys::of(target.image) + tag)) {
    found.add("is missing among the image's tags");
  }
  const auto listed = keys::newest_first(target.created_unix_ns) + keys::of(target.image) + tag;
  for (auto scope : {row_scope::all, row_scope::tagged}) {
    if (!row.in.has(row.t.image_index, image_index_prefix(at.project, scope) + listed)) {
      found.add(scope == row_scope::all ? "is missing in the listing of images"
                                        : "is missing in the listing of tagged images");
    }
  }
  return found.line();
}

std::string look_at_image_tag(const catalog_row& row) {
  if (row.key.size() <= keys::id_bytes) {
    return odd_row("image_tags", row.key);
  }
  const auto id = keys::id_of(row.key);
  const auto tag = row.key.substr(keys::id_bytes);
  const auto name = "catalog: image " + id.text() + " is said to have the tag " + printable(tag);
  const auto record = record_at<proto::ImageRecord>(row, row.t.images, keys::of(id));
  if (record.empty()) {
    return name + ", but is not there";
  }
  auto image = record.view();
  const auto project = view_of(image->getProject());
  const auto target = row.in.get(row.t.tags, tag_key(project, tag));
  if (!target) {
    return name + ", but project " + printable(project) + " has no such tag";
  }
  return target->starts_with(keys::of(id))
             ? std::string{}
             : name + ", which points to image " + keys::id_of(*target).text();
}

std::string look_at_source(const catalog_row& row) {
  project_row at;
  if (!split(row.key, 1 + keys::time_bytes + keys::id_bytes, at)) {
    return odd_row("sources", row.key);
  }
  const auto id = keys::id_of(row.key.substr(row.key.size() - keys::id_bytes));
  const auto record = record_at<proto::ImageRecord>(row, row.t.images, keys::of(id));
  const auto name =
      "catalog: project " + printable(at.project) + " has image " + id.text() +
      " among its imports of " +
      printable(at.rest.substr(0, at.rest.size() - 1 - keys::time_bytes - keys::id_bytes));
  if (record.empty()) {
    return name + ", which is not there";
  }
  auto image = record.view();
  if (source_key(*image) == row.key) {
    return {};
  }
  return name + "; its record says project " + printable(view_of(image->getProject())) +
         ", imported from " + printable(view_of(image->getSourceDigest())) + ", made at " +
         std::to_string(image->getCreatedAtUnixNs());
}

} // namespace coppice::storage
