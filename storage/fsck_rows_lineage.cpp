#include "protocol/records.capnp.h"
#include "storage/fsck_rows.hpp"

namespace coppice::storage {

namespace {

std::string name_of(const uuid& image) {
  return image ? "that of image " + image.text() : "none";
}

} // namespace

/// That the parent has a file, and that there is an image or was one, is seen beside the file.
std::string look_at_image_file(const catalog_row& row) {
  if (row.key.size() != keys::id_bytes || row.value.size() != keys::id_bytes) {
    return odd_row("image_files", row.key);
  }
  const auto parent = keys::id_of(row.value);
  return !parent || row.in.has(row.t.image_file_children, keys::of(parent) + std::string{row.key})
             ? std::string{}
             : "catalog: the file of image " + keys::id_of(row.key).text() + " stands on " +
                   name_of(parent) + ", but is missing among those that do";
}

std::string look_at_child_file(const catalog_row& row) {
  if (row.key.size() != 2 * keys::id_bytes) {
    return odd_row("image_file_children", row.key);
  }
  const auto parent = keys::id_of(row.key);
  const auto child = keys::id_of(row.key.substr(keys::id_bytes));
  const auto name = "catalog: the file of image " + child.text() +
                    " is among those that stand on " + name_of(parent) + ", but ";
  const auto on = row.in.get(row.t.image_files, keys::of(child));
  if (!on) {
    return name + "is not on record";
  }
  return keys::id_of(*on) == parent ? std::string{}
                                    : name + "its record says " + name_of(keys::id_of(*on));
}

std::string look_at_dead_file(const catalog_row& row) {
  if (row.key.size() != keys::id_bytes) {
    return odd_row("dead_image_files", row.key);
  }
  const auto name = "catalog: the file of deleted image " + keys::id_of(row.key).text();
  if (!row.in.has(row.t.image_files, row.key)) {
    return name + " is not on record";
  }
  if (row.in.has(row.t.images, row.key) || has_any(row, row.t.image_file_children, row.key)) {
    return {}; // an image that is live and deleted is told beside its file
  }
  return name + " is kept, but no file stands on it";
}

std::string look_at_index(const catalog_row& row) {
  if (row.key.size() != keys::id_bytes || !is_message(row.value)) {
    return odd_row("indexes", row.key);
  }
  const auto name = "catalog: the block index of image " + keys::id_of(row.key).text();
  if (!row.in.has(row.t.images, row.key)) {
    return has_any(row, row.t.index_users, row.key)
               ? std::string{}
               : name + " is kept, but the image is not there and no index stands on it";
  }
  const auto record = record_in<proto::ImageIndex>(row.in, row.value);
  const auto checkpoint = uuid::from(record.view()->getCheckpoint());
  return !checkpoint || row.in.has(row.t.index_users, keys::of(checkpoint) + std::string{row.key})
             ? std::string{}
             : name + " stands on " + name_of(checkpoint) + ", but is missing among those that do";
}

/// A live image without an index is told beside its file.
std::string look_at_index_user(const catalog_row& row) {
  if (row.key.size() != 2 * keys::id_bytes) {
    return odd_row("index_users", row.key);
  }
  const auto checkpoint = keys::id_of(row.key);
  const auto image = keys::id_of(row.key.substr(keys::id_bytes));
  const auto name = "catalog: the block index of image " + image.text() +
                    " is among those that stand on " + name_of(checkpoint) + ", but ";
  if (!row.in.has(row.t.images, keys::of(image))) {
    return name + "the image is not there";
  }
  const auto record = record_at<proto::ImageIndex>(row, row.t.indexes, keys::of(image));
  if (record.empty()) {
    return {};
  }
  const auto own = uuid::from(record.view()->getCheckpoint());
  return own == checkpoint ? std::string{} : name + "stands on " + name_of(own);
}

} // namespace coppice::storage
