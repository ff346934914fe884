#include "storage/catalog.hpp"

#include "storage/catalog_impl.hpp"
#include "storage/catalog_upgrade.hpp"

namespace coppice::storage {

namespace {

constexpr unsigned readers_max = 1024;

} // namespace

catalog::catalog(std::unique_ptr<impl> state) : impl_{std::move(state)} {}

catalog::~catalog() = default;

result<std::unique_ptr<catalog>> catalog::open(const std::filesystem::path& dir,
                                               std::size_t map_bytes) {
  auto env =
      lmdb::environment::open(dir, {map_bytes, tables::count_max, readers_max, false, false});
  if (!env) {
    return env.error();
  }
  auto in = lmdb::transaction::begin(*env, lmdb::mode::write);
  if (!in) {
    return in.error();
  }
  auto all = tables::open(*in);
  if (!all) {
    return failure{all.error().code, dir.string() + ": " + all.error().text};
  }
  const auto version = tables::version(*in, all->meta);
  if (!version) {
    return version.error();
  }
  if (*version == 0) {
    tables::set_version(*in, all->meta);
  }
  if (auto done = in->commit(); !done) {
    return done.error();
  }
  if (*version != 0 && *version != tables::schema_version) {
    if (auto done = upgrade(*env, *all, *version); !done) {
      return failure{done.error().code, dir.string() + ": " + done.error().text};
    }
  }
  return std::unique_ptr<catalog>{new catalog{std::make_unique<impl>(std::move(*env), *all)}};
}

std::uint64_t catalog::last_commit() const {
  MDB_envinfo info{};
  ::mdb_env_info(impl_->env.handle(), &info);
  return info.me_last_txnid;
}

result<std::unique_ptr<catalog>> catalog::open_read_only(const std::filesystem::path& dir,
                                                         bool is_private) {
  auto env = lmdb::environment::open(
      dir, {map_bytes_default, tables::count_max, readers_max, true, is_private});
  if (!env) {
    return env.error();
  }
  auto in = lmdb::transaction::begin(*env, lmdb::mode::read);
  if (!in) {
    return in.error();
  }
  auto all = tables::open_read_only(*in);
  if (!all) {
    return failure{all.error().code, dir.string() + ": " + all.error().text};
  }
  if (auto kept = in->commit(); !kept) { // the handles of the tables
    return kept.error();
  }
  return std::unique_ptr<catalog>{new catalog{std::make_unique<impl>(std::move(*env), *all)}};
}

} // namespace coppice::storage
