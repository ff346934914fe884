#include "storage/catalog_tables.hpp"

#include "storage/catalog_keys.hpp"
#include "storage/catalog_lineage.hpp"
#include "storage/catalog_usage.hpp"

#include <utility>

namespace coppice::storage {

namespace {

/// Of keys and tables. Records evolve by themselves: their schemas only gain fields.
///   2  image_files and what belongs to them
///   3  usage
constexpr std::uint64_t schema_version = 3;
constexpr std::string_view version_key = "schema";

/// Which version wrote the catalog; 0: it is new.
result<std::uint64_t> read_version(lmdb::transaction& in, lmdb::table meta) {
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
  const auto version = keys::number_of(*stored);
  if (version > schema_version) {
    return fail(ec::unsupported, "the catalog was written by a newer version of coppice; run that "
                                 "version, or use another state folder");
  }
  return version;
}

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
      {"files", &tables::files},
      {"file_ids", &tables::file_ids},
      {"file_index", &tables::file_index},
      {"indexes", &tables::indexes},
      {"index_users", &tables::index_users},
      {"image_files", &tables::image_files},
      {"image_file_children", &tables::image_file_children},
      {"dead_image_files", &tables::dead_image_files},
      {"usage", &tables::usage},
  };
  for (const auto& [name, member] : named) {
    auto opened = in.open_table(name, may_create);
    if (!opened) {
      return opened.error();
    }
    all.*member = *opened;
  }
  return all;
}

} // namespace

result<tables> tables::open(lmdb::transaction& in) {
  auto all = open_tables(in, true);
  if (!all) {
    return all;
  }
  const auto version = read_version(in, all->meta);
  if (!version) {
    return version.error();
  }
  if (*version == 1) {
    if (auto made = make_image_files(in, *all); !made) {
      return made.error();
    }
  }
  if (*version == 1 || *version == 2) {
    if (auto made = make_usage(in, *all); !made) {
      return made.error();
    }
  }
  if (*version != schema_version) {
    in.put(all->meta, version_key, keys::big_endian(schema_version));
  }
  return in.failed() ? result<tables>{*in.failed()} : all;
}

result<tables> tables::open_read_only(lmdb::transaction& in) {
  auto meta = in.open_table("meta", false);
  if (!meta) {
    return meta.error();
  }
  const auto version = read_version(in, *meta);
  if (!version) {
    return version.error();
  }
  if (*version != schema_version) {
    return fail(ec::unsupported, "the catalog was written by an older version of coppice; start "
                                 "this one's daemon on it once, which brings it up to date");
  }
  return open_tables(in, false);
}

} // namespace coppice::storage
