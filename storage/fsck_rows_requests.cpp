#include "protocol/records.capnp.h"
#include "storage/fsck_rows.hpp"

namespace coppice::storage {

namespace {

std::string request_name(std::string_view project, std::string_view digest) {
  return "Idempotency-Key " + digest_text(digest) + " of project " + printable(project);
}

/// How many a project has is held against what it has where totals are counted.
bool is_count(const project_row& at) {
  return at.rest.empty();
}

} // namespace

std::string look_at_request_key(const catalog_row& row) {
  project_row at;
  if (!split(row.key, 0, at)) {
    return odd_row("request_keys", row.key);
  }
  if (is_count(at)) {
    return row.value.size() == sizeof(std::uint64_t)
               ? std::string{}
               : "catalog: how many Idempotency-Keys project " + printable(at.project) +
                     " has is not a number";
  }
  if (at.rest.size() != keys::digest_bytes || !is_message(row.value)) {
    return odd_row("request_keys", row.key);
  }
  const auto record = record_in<proto::RequestKeyRecord>(row.in, row.value);
  auto request = record.view();
  row_findings found{"catalog: " + request_name(at.project, at.rest)};
  if (request->getDigest().size() != keys::digest_bytes) {
    found.add("does not say what the request was");
  }
  if (!row.in.has(row.t.request_key_ages, keys::project_key(at.project) +
                                              keys::oldest_first(request->getAtUnixNs()) +
                                              std::string{at.rest})) {
    found.add("is missing among those that are forgotten in time");
  }
  const auto id = uuid::from(request->getOperation());
  if (!id) {
    return found.line();
  }
  const auto operation = record_at<proto::OperationRecord>(row, row.t.operations, keys::of(id));
  if (operation.empty()) {
    found.add("has started operation " + id.text() + ", which is not there");
  } else if (const auto owner = view_of(operation.view()->getProject()); owner != at.project) {
    found.add("has started operation " + id.text() + ", which belongs to project " +
              printable(owner));
  }
  return found.line();
}

std::string look_at_request_key_age(const catalog_row& row) {
  constexpr auto fixed_bytes = keys::time_bytes + keys::digest_bytes;
  project_row at;
  if (!split(row.key, fixed_bytes, at) || at.rest.size() != fixed_bytes) {
    return odd_row("request_key_ages", row.key);
  }
  const auto digest = at.rest.substr(keys::time_bytes);
  const auto used = keys::time_of_oldest_first(at.rest);
  const auto name = "catalog: " + request_name(at.project, digest) +
                    " is to be forgotten, used at " + std::to_string(used);
  const auto record = record_at<proto::RequestKeyRecord>(
      row, row.t.request_keys, keys::project_key(at.project) + std::string{digest});
  if (record.empty()) {
    return name + ", which is not there";
  }
  const auto own = record.view()->getAtUnixNs();
  return own == used ? std::string{} : name + "; its record says " + std::to_string(own);
}

} // namespace coppice::storage
