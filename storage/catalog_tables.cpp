#include "storage/catalog_tables.hpp"

#include "storage/catalog_keys.hpp"

#include <utility>

namespace coppice::storage {

namespace {

constexpr std::string_view version_key = "schema";

result<tables> open_tables(lmdb::transaction& in, bool may_create) {
  tables all;
  const std::pair<const char*, lmdb::table tables::*> named[] = {
      {"meta", &tables::meta},
      {"tokens", &tables::tokens},
      {"images", &tables::images},
      {"image_index", &tables::image_index},
      {"tags", &tables::tags},
      {"image_tags", &tables::image_tags},
      {"sources", &tables::sources},
      {"operations", &tables::operations},
      {"operation_details", &tables::operation_details},
      {"operation_index", &tables::operation_index},
      {"unfinished", &tables::unfinished},
      {"events", &tables::events},
      {"event_logs", &tables::event_logs},
      {"output_heads", &tables::output_heads},
      {"files", &tables::files},
      {"file_ids", &tables::file_ids},
      {"file_index", &tables::file_index},
      {"indexes", &tables::indexes},
      {"index_users", &tables::index_users},
      {"image_files", &tables::image_files},
      {"image_file_children", &tables::image_file_children},
      {"dead_image_files", &tables::dead_image_files},
      {"usage", &tables::usage},
      {"image_users", &tables::image_users},
      {"blob_users", &tables::blob_users},
      {"request_keys", &tables::request_keys},
      {"request_key_ages", &tables::request_key_ages},
  };
  for (const auto& [name, member] : named) {
    auto opened = in.open_table(name, may_create);
    if (!opened) {
      return opened.error();
    }
    all.*member = *opened;
  }
  return in.failed() ? result<tables>{*in.failed()} : result<tables>{all};
}

} // namespace

result<std::uint64_t> tables::version(lmdb::transaction& in, lmdb::table meta) {
  auto stored = in.get(meta, version_key);
  if (in.failed()) {
    return *in.failed();
  }
  if (!stored) {
    return std::uint64_t{0};
  }
  if (stored->size() != sizeof(std::uint64_t)) {
    return fail(ec::damaged, "the version record of the catalog is not 8 bytes long");
  }
  const auto written_by = keys::number_of(*stored);
  if (written_by > schema_version) {
    return fail(ec::unsupported, "the catalog was written by a newer version of coppice; run that "
                                 "version, or use another state folder");
  }
  return written_by;
}

void tables::set_version(lmdb::transaction& in, lmdb::table meta) {
  in.put(meta, version_key, keys::big_endian(schema_version));
}

result<tables> tables::open(lmdb::transaction& in) {
  auto meta = in.open_table("meta");
  if (!meta) {
    return meta.error();
  }
  if (auto known = version(in, *meta); !known) { // before anything is made
    return known.error();
  }
  return open_tables(in, true);
}

result<tables> tables::open_read_only(lmdb::transaction& in) {
  auto meta = in.open_table("meta", false);
  if (!meta) {
    return meta.error();
  }
  const auto written_by = version(in, *meta);
  if (!written_by) {
    return written_by.error();
  }
  if (*written_by != schema_version) {
    return fail(ec::unsupported, "the catalog was written by an older version of coppice; start "
                                 "this one's daemon on it once, which brings it up to date");
  }
  return open_tables(in, false);
}

} // namespace coppice::storage
