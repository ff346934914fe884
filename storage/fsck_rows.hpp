#pragma once

#include "protocol/uuid.hpp"
#include "storage/catalog_keys.hpp"
#include "storage/catalog_tables.hpp"
#include "storage/lmdb.hpp"
#include "storage/printable.hpp"

#include <string>
#include <string_view>

/// What each row of the catalog says of the others.
///
/// Problem: the catalog keeps some things twice, so that a page of a listing costs no search. One
/// that has lost a row lists too little, one that has a row too many lists what is not there.
///
/// Guarantee: a row is looked at with the rows that it belongs to in one view, a few look-ups each,
/// whatever there is besides. A row that only follows from a record is missed where the record is
/// looked at; one that follows from no record is told where the row is. Where two derived tables
/// follow from the same fact, a third is held against either: one lost row is told once.
/// The keys are put together here once more, not by the code that writes them.
namespace coppice::storage {

/// A row, and the view in which it was found.
struct catalog_row {
  lmdb::transaction& in;
  const tables& t;
  std::string_view key;
  std::string_view value;
};

/// What is wrong with a row, in one line; empty: nothing. Bytes that are no message may throw
/// kj::Exception.
using row_look = std::string (*)(const catalog_row& row);

// Images and their tags: fsck_rows_images.cpp.
std::string look_at_image(const catalog_row& row);
std::string look_at_listed_image(const catalog_row& row);
std::string look_at_tag(const catalog_row& row);
std::string look_at_image_tag(const catalog_row& row);
std::string look_at_source(const catalog_row& row);

// Operations: fsck_rows_operations.cpp.
std::string look_at_operation(const catalog_row& row);
std::string look_at_operation_details(const catalog_row& row);
std::string look_at_listed_operation(const catalog_row& row);
std::string look_at_unfinished(const catalog_row& row);
std::string look_at_event_log(const catalog_row& row);
std::string look_at_image_user(const catalog_row& row);

// Uploaded files: fsck_rows_files.cpp.
std::string look_at_file(const catalog_row& row);
std::string look_at_file_id(const catalog_row& row);
std::string look_at_listed_file(const catalog_row& row);
std::string look_at_blob_user(const catalog_row& row);

// Files and indexes of images: fsck_rows_lineage.cpp.
std::string look_at_image_file(const catalog_row& row);
std::string look_at_child_file(const catalog_row& row);
std::string look_at_dead_file(const catalog_row& row);
std::string look_at_index(const catalog_row& row);
std::string look_at_index_user(const catalog_row& row);

// Names of requests: fsck_rows_requests.cpp.
std::string look_at_request_key(const catalog_row& row);
std::string look_at_request_key_age(const catalog_row& row);

// -- for the looks --------------------------------------------------------------------------------

/// Several findings about one row.
class row_findings {
public:
  explicit row_findings(std::string name) : line_{std::move(name)} {}

  void add(const std::string& what) {
    line_ += is_clean_ ? " " : "; ";
    line_ += what;
    is_clean_ = false;
  }

  std::string line() const {
    return is_clean_ ? std::string{} : line_;
  }

private:
  std::string line_;
  bool is_clean_ = true;
};

inline bool is_message(std::string_view value) {
  return !value.empty() && value.size() % sizeof(capnp::word) == 0;
}

/// Empty: there is none, or it is none; then it is told where its own row is looked at.
template <class T>
frame<T> record_at(const catalog_row& row, lmdb::table from, std::string_view key) {
  const auto value = row.in.get(from, key);
  return value && is_message(*value) ? record_in<T>(row.in, *value) : frame<T>{};
}

/// Whether any key of the table begins so.
bool has_any(const catalog_row& row, lmdb::table table, std::string_view prefix);

/// Of SHA-256, as the files of blobs are called.
std::string digest_text(std::string_view digest);

/// For a key that cannot be one of its table: how it looks.
std::string odd_row(const char* table, std::string_view key);

/// A key that begins with a project's name; false: it does not, or another number of bytes follows.
struct project_row {
  std::string_view project;
  std::string_view rest;
};
bool split(std::string_view key, std::size_t rest_bytes_min, project_row& out);

} // namespace coppice::storage
