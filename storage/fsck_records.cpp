#include "storage/fsck_records.hpp"

#include "storage/error.hpp"

#include <utility>

namespace coppice::storage {

namespace {

/// A page ends sooner when its values are large, as indexes may be.
constexpr std::size_t page_bytes_max = 16u << 20;

/// What is wrong with a row; bytes that contradict themselves are that, too.
std::string told_of(row_look look, const char* table, const catalog_row& row) {
  auto told = guarded<std::string>(table, [&]() -> result<std::string> { return look(row); });
  return told ? *told : odd_row(table, row.key) + ": " + told.error().text;
}

} // namespace

bool has_any(const catalog_row& row, lmdb::table table, std::string_view prefix) {
  lmdb::cursor at{row.in, table};
  return at.seek(prefix) && at.key().starts_with(prefix);
}

std::string odd_row(const char* table, std::string_view key) {
  return "catalog: a row of table " + std::string{table} + " is not one of its kind, key " +
         printable(key);
}

bool split(std::string_view key, std::size_t rest_bytes_min, project_row& out) {
  const auto end = key.find('\0');
  if (end == std::string_view::npos || key.size() - end - 1 < rest_bytes_min) {
    return false;
  }
  out = {key.substr(0, end), key.substr(end + 1)};
  return keys::is_project(out.project);
}

record_proof::record_proof(const catalog& records, const fsck_options& how,
                           std::function<void(const std::string&)> problem, fsck_summary& found)
    : records_{records}, impl_{*records.impl_}, how_{how}, problem_{std::move(problem)},
      found_{found} {}

result<void> record_proof::check_rows() {
  static constexpr table_check checks[] = {
      {"images", &tables::images, look_at_image},
      {"image_index", &tables::image_index, look_at_listed_image},
      {"tags", &tables::tags, look_at_tag},
      {"image_tags", &tables::image_tags, look_at_image_tag},
      {"sources", &tables::sources, look_at_source},
      {"operations", &tables::operations, look_at_operation},
      {"operation_details", &tables::operation_details, look_at_operation_details},
      {"operation_index", &tables::operation_index, look_at_listed_operation},
      {"unfinished", &tables::unfinished, look_at_unfinished},
      {"event_logs", &tables::event_logs, look_at_event_log},
      {"image_users", &tables::image_users, look_at_image_user},
      {"files", &tables::files, look_at_file},
      {"file_ids", &tables::file_ids, look_at_file_id},
      {"file_index", &tables::file_index, look_at_listed_file},
      {"blob_users", &tables::blob_users, look_at_blob_user},
      {"image_files", &tables::image_files, look_at_image_file},
      {"image_file_children", &tables::image_file_children, look_at_child_file},
      {"dead_image_files", &tables::dead_image_files, look_at_dead_file},
      {"indexes", &tables::indexes, look_at_index},
      {"index_users", &tables::index_users, look_at_index_user},
      {"request_keys", &tables::request_keys, look_at_request_key},
      {"request_key_ages", &tables::request_key_ages, look_at_request_key_age},
  };
  for (const auto& what : checks) {
    if (auto done = check_table(what); !done) {
      return done;
    }
  }
  return {};
}

result<void> record_proof::check_table(const table_check& what) {
  for (std::string from(1, '\0');;) {
    auto seen = look_at_page(what, from);
    if (!seen) {
      return seen.error();
    }
    if (how_.at_page) {
      how_.at_page();
    }
    found_.catalog_rows += seen->rows;
    for (const auto& key : seen->suspects) {
      if (auto done = look_again(what, key); !done) {
        return done;
      }
    }
    if (seen->is_last) {
      return {};
    }
    from = std::move(seen->last) + '\0'; // the first key behind it
  }
}

result<record_proof::page> record_proof::look_at_page(const table_check& what,
                                                      const std::string& from) const {
  return impl_.read<page>(what.name, [&](lmdb::transaction& in) -> result<page> {
    page seen;
    std::size_t bytes = 0;
    lmdb::cursor at{in, impl_.t.*what.table};
    bool more = at.seek(from);
    for (; more && seen.rows < catalog::page_rows_max && bytes < page_bytes_max; more = at.next()) {
      const catalog_row row{in, impl_.t, at.key(), at.value()};
      if (!told_of(what.look, what.name, row).empty()) {
        seen.suspects.emplace_back(row.key);
      }
      seen.last = row.key;
      ++seen.rows;
      bytes += row.value.size();
    }
    seen.is_last = !more;
    return seen;
  });
}

result<void> record_proof::look_again(const table_check& what, const std::string& key) {
  auto told = impl_.read<std::string>(what.name, [&](lmdb::transaction& in) -> result<std::string> {
    const auto value = in.get(impl_.t.*what.table, key);
    return value ? told_of(what.look, what.name, {in, impl_.t, key, *value}) : std::string{};
  });
  if (!told) {
    return told.error();
  }
  if (!told->empty()) {
    problem_(*told);
  }
  return {};
}

bool record_proof::may_go_on(lmdb::transaction& in) const {
  if (how_.at_page) {
    how_.at_page();
  }
  return records_.last_commit() - ::mdb_txn_id(in.handle()) <= how_.commits_behind_max;
}

} // namespace coppice::storage
