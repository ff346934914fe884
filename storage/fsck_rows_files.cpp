#include "protocol/records.capnp.h"
#include "storage/fsck_blobs.hpp"
#include "storage/fsck_rows.hpp"

#include <algorithm>

namespace coppice::storage {

std::string digest_text(std::string_view digest) {
  catalog::sha256 bytes{};
  std::copy_n(digest.begin(), std::min(digest.size(), bytes.size()), bytes.begin());
  return blob_file_name(bytes);
}

namespace {

std::string file_name(std::string_view project, std::string_view digest) {
  return "file " + digest_text(digest) + " of project " + printable(project);
}

} // namespace

std::string look_at_file(const catalog_row& row) {
  project_row at;
  if (!split(row.key, keys::digest_bytes, at) || at.rest.size() != keys::digest_bytes ||
      !is_message(row.value)) {
    return odd_row("files", row.key);
  }
  const auto record = record_in<proto::FileRecord>(row.in, row.value);
  auto file = record.view();
  row_findings found{"catalog: " + file_name(at.project, at.rest)};
  if (view_of(file->getProject()) != at.project || view_of(file->getSha256()) != at.rest) {
    found.add("has the record of " +
              file_name(view_of(file->getProject()), view_of(file->getSha256())));
    return found.line();
  }
  const auto id = uuid::from(file->getId());
  if (const auto named = row.in.get(row.t.file_ids, keys::of(id)); !named || *named != row.key) {
    found.add("is not what its id " + id.text() + " names");
  }
  const auto listed = row.in.get(
      row.t.file_index, keys::project_key(at.project) +
                            keys::newest_first(file->getUpdatedAtUnixNs()) + std::string{at.rest});
  if (!listed) {
    found.add("is missing in the listing of its project");
  } else if (*listed != row.value) {
    found.add("is listed with a record that is not its own");
  }
  if (!row.in.has(row.t.blob_users, std::string{at.rest} + std::string{at.project})) {
    found.add("is missing among the users of its blob");
  }
  return found.line();
}

std::string look_at_file_id(const catalog_row& row) {
  project_row at;
  if (row.key.size() != keys::id_bytes || !split(row.value, keys::digest_bytes, at)) {
    return odd_row("file_ids", row.key);
  }
  const auto id = keys::id_of(row.key);
  const auto name =
      "catalog: the id " + id.text() + " names " + file_name(at.project, at.rest) + ", ";
  const auto record = record_at<proto::FileRecord>(row, row.t.files, row.value);
  if (record.empty()) {
    return name + "which is not there";
  }
  const auto own = uuid::from(record.view()->getId());
  return own == id ? std::string{} : name + "whose record says " + own.text();
}

/// That the record beside it is the file's is seen where the file is looked at.
std::string look_at_listed_file(const catalog_row& row) {
  constexpr auto fixed_bytes = keys::time_bytes + keys::digest_bytes;
  project_row at;
  if (!split(row.key, fixed_bytes, at) || at.rest.size() != fixed_bytes) {
    return odd_row("file_index", row.key);
  }
  const auto digest = at.rest.substr(keys::time_bytes);
  const auto updated = keys::time_of_newest_first(at.rest);
  const auto name = "catalog: the listing of files has " + file_name(at.project, digest) +
                    ", uploaded at " + std::to_string(updated);
  const auto record = record_at<proto::FileRecord>(
      row, row.t.files, keys::project_key(at.project) + std::string{digest});
  if (record.empty()) {
    return name + ", which is not there";
  }
  const auto own = record.view()->getUpdatedAtUnixNs();
  return own == updated ? std::string{} : name + "; its record says " + std::to_string(own);
}

std::string look_at_blob_user(const catalog_row& row) {
  if (row.key.size() <= keys::digest_bytes) {
    return odd_row("blob_users", row.key);
  }
  const auto digest = row.key.substr(0, keys::digest_bytes);
  const auto project = row.key.substr(keys::digest_bytes);
  return row.in.has(row.t.files, keys::project_key(project) + std::string{digest})
             ? std::string{}
             : "catalog: blob " + digest_text(digest) + " is said to be used by project " +
                   printable(project) + ", which has no such file";
}

} // namespace coppice::storage
