#include "storage/catalog_tables.hpp"

#include "storage/catalog_keys.hpp"

#include <utility>

namespace coppice::storage {

namespace {

/// Of keys and tables. Records evolve by themselves: their schemas only gain fields.
constexpr std::uint64_t schema_version = 1;
constexpr std::string_view version_key = "schema";

result<void> check_version(lmdb::transaction& in, lmdb::table meta) {
  auto stored = in.get(meta, version_key);
  if (in.failed()) {
    return *in.failed();
  }
  const auto current = keys::big_endian(schema_version);
  if (!stored) {
    in.put(meta, version_key, current);
    return in.failed() ? result<void>{*in.failed()} : result<void>{};
  }
  if (stored->size() != current.size()) {
    return fail(ec::damaged, "the version record of the catalog is not 8 bytes long");
  }
  if (*stored > current) {
    return fail(ec::unsupported, "the catalog was written by a newer version of coppice; run that "
                                 "version, or use another state folder");
  }
  return {};
}

} // namespace

result<tables> tables::open(lmdb::transaction& in) {
  tables all;
  auto meta = in.open_table("meta");
  if (!meta) {
    return meta.error();
  }
  all.meta = *meta;
  if (auto known = check_version(in, all.meta); !known) {
    return known.error();
  }
  const std::pair<const char*, lmdb::table tables::*> named[] = {
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
      {"files", &tables::files},
      {"file_ids", &tables::file_ids},
      {"file_index", &tables::file_index},
  };
  for (const auto& [name, member] : named) {
    auto opened = in.open_table(name);
    if (!opened) {
      return opened.error();
    }
    all.*member = *opened;
  }
  return all;
}

} // namespace coppice::storage
