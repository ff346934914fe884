#include "protocol/records.capnp.h"
#include "storage/catalog_operations.hpp"
#include "storage/fsck_rows.hpp"

#include <optional>

namespace coppice::storage {

namespace {

using operation_record = proto::OperationRecord::Reader;

constexpr std::size_t filter_bytes = 2;

std::string status_text(proto::OperationStatus status) {
  const auto name = status_name(status);
  return name.empty() ? "status " + std::to_string(static_cast<unsigned>(status))
                      : std::string{name};
}

/// The image that the operation holds until it has ended; nil: none.
uuid held_image(operation_record operation) {
  return is_terminal(operation.getStatus()) || !operation.getRequest().isInstance()
             ? uuid{}
             : uuid::from(operation.getRequest().getInstance().getImage());
}

bool has_log(operation_record operation) {
  return is_terminal(operation.getStatus()) && operation.getEventCount() != 0;
}

std::string time_and_id(operation_record operation) {
  return keys::newest_first(operation.getCreatedAtUnixNs()) +
         keys::of(uuid::from(operation.getId()));
}

void look_at_listings(const catalog_row& row, operation_record operation, row_findings& found) {
  const auto project = view_of(operation.getProject());
  const auto rest = time_and_id(operation);
  for (bool by_status : {false, true}) {
    for (bool by_kind : {false, true}) {
      const auto prefix = operation_index_prefix(
          project, by_status ? std::optional{operation.getStatus()} : std::nullopt,
          by_kind ? std::optional{operation.getKind()} : std::nullopt);
      if (!row.in.has(row.t.operation_index, prefix + rest)) {
        found.add("is missing in the listing of project " + printable(project) + " by " +
                  (by_status ? by_kind ? "status and kind" : "status"
                   : by_kind ? "kind"
                             : "time"));
      }
    }
  }
}

} // namespace

std::string look_at_operation(const catalog_row& row) {
  if (row.key.size() != keys::id_bytes || !is_message(row.value)) {
    return odd_row("operations", row.key);
  }
  const auto id = keys::id_of(row.key);
  const auto record = record_in<proto::OperationRecord>(row.in, row.value);
  auto operation = record.view();
  row_findings found{"catalog: operation " + id.text() + ", " +
                     status_text(operation->getStatus()) + ","};
  if (uuid::from(operation->getId()) != id) {
    found.add("has the record of operation " + uuid::from(operation->getId()).text());
    return found.line();
  }
  if (!row.in.has(row.t.operation_details, keys::of(id))) {
    found.add("is missing its request");
  }
  look_at_listings(row, *operation, found);
  if (!is_terminal(operation->getStatus()) &&
      !row.in.has(row.t.unfinished,
                  keys::oldest_first(operation->getCreatedAtUnixNs()) + keys::of(id))) {
    found.add("is missing among the unfinished");
  }
  if (has_log(*operation) && !operation->getEventsTrimmed() &&
      !row.in.has(row.t.event_logs,
                  keys::oldest_first(operation->getEndedAtUnixNs()) + keys::of(id))) {
    found.add("is missing among the event logs");
  }
  const auto image = held_image(*operation);
  if (image && !row.in.has(row.t.image_users, keys::of(image) + keys::of(id))) {
    found.add("is missing among the users of image " + image.text());
  }
  return found.line();
}

std::string look_at_operation_details(const catalog_row& row) {
  if (row.key.size() != keys::id_bytes || !is_message(row.value)) {
    return odd_row("operation_details", row.key);
  }
  return row.in.has(row.t.operations, row.key)
             ? std::string{}
             : "catalog: there is a request of operation " + keys::id_of(row.key).text() +
                   ", which is not there";
}

std::string look_at_listed_operation(const catalog_row& row) {
  constexpr auto fixed_bytes = filter_bytes + keys::time_bytes + keys::id_bytes;
  project_row at;
  if (!split(row.key, fixed_bytes, at) || at.rest.size() != fixed_bytes) {
    return odd_row("operation_index", row.key);
  }
  const auto status = static_cast<unsigned char>(at.rest[0]);
  const auto kind = static_cast<unsigned char>(at.rest[1]);
  const auto id = keys::id_of(at.rest.substr(filter_bytes + keys::time_bytes));
  const auto record = record_at<proto::OperationRecord>(row, row.t.operations, keys::of(id));
  auto name =
      "catalog: a listing of project " + printable(at.project) + " has operation " + id.text();
  if (status != 0) {
    name += " as " + status_text(static_cast<proto::OperationStatus>(status - 1));
  }
  if (kind != 0) {
    name += " of kind " + std::to_string(kind - 1);
  }
  name += ", made at " + std::to_string(keys::time_of_newest_first(at.rest.substr(filter_bytes)));
  if (record.empty()) {
    return name + ", which is not there";
  }
  auto operation = record.view();
  const bool is_true =
      view_of(operation->getProject()) == at.project &&
      (status == 0 || status == static_cast<unsigned>(operation->getStatus()) + 1) &&
      (kind == 0 || kind == static_cast<unsigned>(operation->getKind()) + 1) &&
      at.rest.substr(filter_bytes) == time_and_id(*operation);
  return is_true
             ? std::string{}
             : name + "; its record says project " + printable(view_of(operation->getProject())) +
                   ", " + status_text(operation->getStatus()) + ", kind " +
                   std::to_string(static_cast<unsigned>(operation->getKind())) + ", made at " +
                   std::to_string(operation->getCreatedAtUnixNs());
}

std::string look_at_unfinished(const catalog_row& row) {
  if (row.key.size() != keys::time_bytes + keys::id_bytes) {
    return odd_row("unfinished", row.key);
  }
  const auto id = keys::id_of(row.key.substr(keys::time_bytes));
  const auto record = record_at<proto::OperationRecord>(row, row.t.operations, keys::of(id));
  const auto made = keys::time_of_oldest_first(row.key);
  const auto name = "catalog: operation " + id.text() + ", made at " + std::to_string(made) +
                    ", is among the unfinished, ";
  if (record.empty()) {
    return name + "but is not there";
  }
  auto operation = record.view();
  if (is_terminal(operation->getStatus())) {
    return name + "but its record says " + status_text(operation->getStatus());
  }
  return operation->getCreatedAtUnixNs() == made
             ? std::string{}
             : name + "but its record says " + std::to_string(operation->getCreatedAtUnixNs());
}

/// A log that is being trimmed still has its row.
std::string look_at_event_log(const catalog_row& row) {
  if (row.key.size() != keys::time_bytes + keys::id_bytes) {
    return odd_row("event_logs", row.key);
  }
  const auto id = keys::id_of(row.key.substr(keys::time_bytes));
  const auto record = record_at<proto::OperationRecord>(row, row.t.operations, keys::of(id));
  const auto ended = keys::time_of_oldest_first(row.key);
  const auto name = "catalog: operation " + id.text() + ", ended at " + std::to_string(ended) +
                    ", is among the event logs, ";
  if (record.empty()) {
    return name + "but is not there";
  }
  auto operation = record.view();
  return has_log(*operation) && operation->getEndedAtUnixNs() == ended
             ? std::string{}
             : name + "but its record says " + status_text(operation->getStatus()) + ", " +
                   std::to_string(operation->getEventCount()) + " events, ended at " +
                   std::to_string(operation->getEndedAtUnixNs());
}

std::string look_at_image_user(const catalog_row& row) {
  if (row.key.size() != 2 * keys::id_bytes) {
    return odd_row("image_users", row.key);
  }
  const auto image = keys::id_of(row.key);
  const auto id = keys::id_of(row.key.substr(keys::id_bytes));
  const auto record = record_at<proto::OperationRecord>(row, row.t.operations, keys::of(id));
  const auto name =
      "catalog: image " + image.text() + " is said to be used by operation " + id.text() + ", ";
  if (record.empty()) {
    return name + "which is not there";
  }
  auto operation = record.view();
  const auto held = held_image(*operation);
  if (held == image) {
    return {};
  }
  return name + "which is " + status_text(operation->getStatus()) +
         (held ? " and was given image " + held.text() : " and holds no image");
}

} // namespace coppice::storage
