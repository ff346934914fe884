#include "storage/catalog_usage.hpp"

#include "storage/catalog.hpp"
#include "storage/catalog_impl.hpp"
#include "storage/catalog_keys.hpp"

#include <map>
#include <string>

namespace coppice::storage {

namespace {

void add(usage_change& to, const usage_change& by) {
  to.images += by.images;
  to.image_bytes += by.image_bytes;
  to.files += by.files;
  to.file_bytes += by.file_bytes;
}

/// Below zero only if the catalog contradicts itself; fsck says so, nobody must stop for it.
std::uint64_t changed(std::uint64_t value, std::int64_t by) {
  const auto magnitude = by < 0 ? 0 - static_cast<std::uint64_t>(by) : 0;
  if (by < 0) {
    return value > magnitude ? value - magnitude : 0;
  }
  return value + static_cast<std::uint64_t>(by);
}

} // namespace

usage_change usage_of(proto::ImageRecord::Reader image) {
  return {1, static_cast<std::int64_t>(image.getSizeBytes()), 0, 0};
}

usage_change usage_of(proto::FileRecord::Reader file) {
  return {0, 0, 1, static_cast<std::int64_t>(file.getSizeBytes())};
}

usage_change operator-(const usage_change& of) {
  return {-of.images, -of.image_bytes, -of.files, -of.file_bytes};
}

void change_usage(lmdb::transaction& in, const tables& t, std::string_view project,
                  const usage_change& by) {
  auto before = load<proto::ProjectUsage>(in, t.usage, project);
  if (before.empty()) {
    before = make_frame<proto::ProjectUsage>();
  }
  auto after = make_frame<proto::ProjectUsage>([&](proto::ProjectUsage::Builder to) {
    auto view = before.view();
    to.setImages(changed(view->getImages(), by.images));
    to.setImageBytes(changed(view->getImageBytes(), by.image_bytes));
    to.setFiles(changed(view->getFiles(), by.files));
    to.setFileBytes(changed(view->getFileBytes(), by.file_bytes));
  });
  store(in, t.usage, project, after);
}

result<void> make_usage(lmdb::transaction& in, const tables& t) {
  return guarded<void>("usage", [&]() -> result<void> {
    std::map<std::string, usage_change, std::less<>> totals;
    {
      lmdb::cursor at{in, t.images};
      for (bool more = at.seek(keys::of({})); more; more = at.next()) {
        auto record = load<proto::ImageRecord>(in, t.images, std::string{at.key()});
        auto view = record.view();
        add(totals[std::string{view_of(view->getProject())}], usage_of(*view));
      }
    }
    {
      lmdb::cursor at{in, t.files};
      for (bool more = at.seek({"\0", 1}); more; more = at.next()) {
        auto record = load<proto::FileRecord>(in, t.files, std::string{at.key()});
        auto view = record.view();
        add(totals[std::string{view_of(view->getProject())}], usage_of(*view));
      }
    }
    for (const auto& [project, total] : totals) {
      in.erase(t.usage, project);
      change_usage(in, t, project, total);
    }
    return in.failed() ? result<void>{*in.failed()} : result<void>{};
  });
}

// -- reading -------------------------------------------------------------------------------------

result<frame<proto::ProjectUsage>> catalog::get_usage(std::string_view project) const {
  using answer = frame<proto::ProjectUsage>;
  return impl_->read<answer>("get usage", [&](lmdb::transaction& in) -> result<answer> {
    if (!keys::is_project(project)) {
      return fail(ec::not_found, "no project of that name");
    }
    auto usage = load<proto::ProjectUsage>(in, impl_->t.usage, project);
    return usage.empty() ? make_frame<proto::ProjectUsage>() : usage;
  });
}

result<std::vector<std::string>> catalog::list_projects(std::string_view after) const {
  using answer = std::vector<std::string>;
  return impl_->read<answer>("list projects", [&](lmdb::transaction& in) -> result<answer> {
    answer found;
    const auto from = std::string{after} + '\0'; // the first key behind it
    lmdb::cursor at{in, impl_->t.usage};
    for (bool more = at.seek(from); more && found.size() < page_rows_max; more = at.next()) {
      found.emplace_back(at.key());
    }
    return found;
  });
}

} // namespace coppice::storage
