#include "storage/catalog.hpp"
#include "storage/catalog_images.hpp"
#include "storage/catalog_impl.hpp"
#include "storage/catalog_keys.hpp"
#include "storage/catalog_listing.hpp"
#include "storage/catalog_operations.hpp"
#include "storage/catalog_users.hpp"

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

namespace coppice::storage {

namespace {

failure no(const char* what, std::string_view name, std::string_view project) {
  return fail(ec::not_found, "no " + std::string{what} + " " + std::string{name} + " in project " +
                                 std::string{project});
}

/// The loaded records as the page's `rows`.
template <class Builder, class Record>
void fill_rows(Builder page, const std::vector<frame<Record>>& records) {
  auto rows = page.initRows(static_cast<unsigned>(records.size()));
  for (std::size_t i = 0; i < records.size(); ++i) {
    auto record = records[i].view();
    rows.setWithCaveats(static_cast<unsigned>(i), *record);
  }
}

template <class Page, class Record>
frame<Page> page_of(const std::vector<frame<Record>>& records) {
  return make_frame<Page>([&](typename Page::Builder page) { fill_rows(page, records); });
}

/// An index that names a record which is not there.
failure broken_index(const char* what, std::string_view id) {
  return fail(ec::damaged, "the catalog lists " + std::string{what} + " " + std::string{id} +
                               " but has no record of it");
}

frame<proto::ImageRow> row_of(lmdb::transaction& in, const tables& t, std::string_view project,
                              const uuid& image, std::string_view tag) {
  auto record = load_image(in, t, project, image);
  if (record.empty()) {
    in.fail_with(broken_index("image", image.text()));
    return {};
  }
  return make_image_row(*record.view(), tag);
}

} // namespace

// -- tokens --------------------------------------------------------------------------------------

result<frame<proto::TokenRecord>> catalog::find_token(proto::FindToken::Reader request) const {
  using answer = frame<proto::TokenRecord>;
  return impl_->read<answer>("find token", [&](lmdb::transaction& in) -> result<answer> {
    const auto digest = view_of(request.getSha256());
    if (digest.size() != keys::digest_bytes) {
      return fail(ec::not_found, "no such token");
    }
    auto token = load<proto::TokenRecord>(in, impl_->t.tokens, digest);
    if (token.empty()) {
      return fail(ec::not_found, "no such token");
    }
    const auto expires = token.view()->getExpiresAtUnixNs();
    const auto now = std::chrono::duration_cast<std::chrono::nanoseconds>(
                         std::chrono::system_clock::now().time_since_epoch())
                         .count();
    if (expires != 0 && expires <= now) {
      return fail(ec::not_found, "the token has expired");
    }
    return token;
  });
}

// -- images --------------------------------------------------------------------------------------

result<frame<proto::ImageRow>> catalog::get_image(proto::GetImage::Reader request) const {
  using answer = frame<proto::ImageRow>;
  return impl_->read<answer>("get image", [&](lmdb::transaction& in) -> result<answer> {
    const auto id = uuid::from(request.getId());
    const auto project = view_of(request.getProject());
    auto image = load_image(in, impl_->t, project, id);
    if (image.empty()) {
      return no("image", id.text(), project);
    }
    return make_image_row(*image.view(), next_tag(in, impl_->t, id).value_or(""));
  });
}

result<frame<proto::ImageRow>> catalog::resolve_tag(proto::ResolveTag::Reader request) const {
  using answer = frame<proto::ImageRow>;
  return impl_->read<answer>("resolve tag", [&](lmdb::transaction& in) -> result<answer> {
    const auto project = view_of(request.getProject());
    const auto tag = view_of(request.getTag());
    if (!keys::is_project(project) || !keys::is_tag(tag)) {
      return no("tag", tag, project);
    }
    auto target = find_tag(in, impl_->t, project, tag);
    if (!target) {
      return no("tag", tag, project);
    }
    return row_of(in, impl_->t, project, target->image, tag);
  });
}

result<frame<proto::ImagePage>> catalog::list_images(proto::ListImages::Reader request) const {
  using answer = frame<proto::ImagePage>;
  return impl_->read<answer>("list images", [&](lmdb::transaction& in) -> result<answer> {
    const auto project = view_of(request.getProject());
    std::vector<frame<proto::ImageRow>> rows;
    if (keys::is_project(project)) {
      for (const auto& ref : find_images(in, impl_->t, request)) {
        rows.push_back(row_of(in, impl_->t, project, ref.image, ref.tag));
      }
    }
    if (in.failed()) {
      return *in.failed();
    }
    return page_of<proto::ImagePage>(rows);
  });
}

bool catalog::has_image(const uuid& image) const {
  auto found = impl_->read<bool>("has image", [&](lmdb::transaction& in) -> result<bool> {
    return in.has(impl_->t.images, keys::of(image));
  });
  // A catalog that cannot be read must not make anyone delete a file.
  return found ? *found : true;
}

bool catalog::is_in_use(const uuid& image) const {
  auto found = impl_->read<bool>("is in use", [&](lmdb::transaction& in) -> result<bool> {
    return find_image_user(in, impl_->t, image).has_value();
  });
  return found ? *found : true; // as above
}

result<frame<proto::ImagePage>> catalog::walk_images(const uuid& after) const {
  using answer = frame<proto::ImagePage>;
  return impl_->read<answer>("walk images", [&](lmdb::transaction& in) -> result<answer> {
    std::vector<frame<proto::ImageRow>> rows;
    lmdb::cursor at{in, impl_->t.images};
    for (bool more = at.seek(keys::of(after)); more && rows.size() < page_rows_max;
         more = at.next()) {
      const auto id = keys::id_of(at.key());
      if (id == after) {
        continue;
      }
      auto record = load<proto::ImageRecord>(in, impl_->t.images, at.key());
      if (record.empty()) {
        break; // the transaction knows why
      }
      rows.push_back(make_image_row(*record.view(), next_tag(in, impl_->t, id).value_or("")));
    }
    if (in.failed()) {
      return *in.failed();
    }
    return page_of<proto::ImagePage>(rows);
  });
}

result<frame<proto::ImageRow>> catalog::find_by_source(std::string_view project,
                                                       std::string_view source_digest) const {
  using answer = frame<proto::ImageRow>;
  return impl_->read<answer>("find by source", [&](lmdb::transaction& in) -> result<answer> {
    if (!keys::is_project(project) || !keys::is_source_digest(source_digest)) {
      return no("image from", source_digest, project);
    }
    auto prefix = keys::project_key(project);
    prefix += source_digest;
    prefix += '\0';
    uuid id;
    {
      lmdb::cursor at{in, impl_->t.sources};
      if (!at.seek(prefix) || !at.key().starts_with(prefix)) {
        return no("image from", source_digest, project);
      }
      id = keys::id_of(at.key().substr(prefix.size() + keys::time_bytes));
    }
    return row_of(in, impl_->t, project, id, next_tag(in, impl_->t, id).value_or(""));
  });
}

// -- operations ----------------------------------------------------------------------------------

result<frame<proto::OperationRecord>>
catalog::get_operation(proto::GetOperation::Reader request) const {
  using answer = frame<proto::OperationRecord>;
  return impl_->read<answer>("get operation", [&](lmdb::transaction& in) -> result<answer> {
    const auto id = uuid::from(request.getId());
    auto row = load_operation_row(in, impl_->t, id);
    if (row.empty() || view_of(row.view()->getProject()) != view_of(request.getProject())) {
      return no("operation", id.text(), view_of(request.getProject()));
    }
    return load_whole_operation(in, impl_->t, row);
  });
}

result<frame<proto::OperationPage>>
catalog::list_operations(proto::ListOperations::Reader request) const {
  using answer = frame<proto::OperationPage>;
  return impl_->read<answer>("list operations", [&](lmdb::transaction& in) -> result<answer> {
    const auto project = view_of(request.getProject());
    std::vector<frame<proto::OperationRecord>> rows;
    if (!keys::is_project(project)) {
      return page_of<proto::OperationPage>(rows);
    }
    std::optional<proto::OperationStatus> status;
    if (request.getFilterStatus()) {
      status = request.getStatus();
    }
    std::optional<proto::OperationKind> kind;
    if (request.getFilterKind()) {
      kind = request.getKind();
    }
    walk_newest_first(in, impl_->t.operation_index, operation_index_prefix(project, status, kind),
                      window::of(request), [&](std::string_view rest, std::string_view) {
                        const auto id = keys::id_of(rest.substr(keys::time_bytes));
                        rows.push_back(load_operation_row(in, impl_->t, id));
                        if (rows.back().empty()) {
                          in.fail_with(broken_index("operation", id.text()));
                        }
                      });
    if (in.failed()) {
      return *in.failed();
    }
    return page_of<proto::OperationPage>(rows);
  });
}

result<frame<proto::UnfinishedPage>>
catalog::list_unfinished(proto::ListUnfinished::Reader request) const {
  using answer = frame<proto::UnfinishedPage>;
  // Whole records carry standard input: a page is one of them and what fits beside it.
  constexpr std::size_t page_bytes_max = 16u << 20;
  return impl_->read<answer>("list unfinished", [&](lmdb::transaction& in) -> result<answer> {
    const auto behind = keys::oldest_first(request.getAfterCreatedAtUnixNs()) +
                        keys::of(uuid::from(request.getAfterId()));
    std::vector<frame<proto::OperationRecord>> rows;
    std::size_t bytes = 0;
    lmdb::cursor at{in, impl_->t.unfinished};
    bool more = at.seek(behind);
    if (more && at.key() == behind) {
      more = at.next();
    }
    for (; more && rows.size() < page_rows_max && bytes < page_bytes_max; more = at.next()) {
      const auto id = keys::id_of(at.key().substr(keys::time_bytes));
      auto row = load_operation_row(in, impl_->t, id);
      if (row.empty()) {
        return broken_index("operation", id.text());
      }
      rows.push_back(load_whole_operation(in, impl_->t, row));
      bytes += rows.back().bytes().size();
    }
    if (in.failed()) {
      return *in.failed();
    }
    return make_frame<proto::UnfinishedPage>([&](proto::UnfinishedPage::Builder page) {
      fill_rows(page, rows);
      page.setMore(more);
    });
  });
}

result<frame<proto::ActiveCounts>> catalog::count_active(proto::CountActive::Reader request) const {
  using answer = frame<proto::ActiveCounts>;
  return impl_->read<answer>("count active", [&](lmdb::transaction& in) -> result<answer> {
    const auto project = view_of(request.getProject());
    auto count = [&](proto::OperationKind kind) {
      std::uint32_t active = 0;
      for (auto status : {proto::OperationStatus::ASSIGNED, proto::OperationStatus::EXECUTING}) {
        const auto prefix = operation_index_prefix(project, status, kind);
        lmdb::cursor at{in, impl_->t.operation_index};
        for (bool more = at.seek(prefix); more && at.key().starts_with(prefix); more = at.next()) {
          ++active;
        }
      }
      return active;
    };
    return make_frame<proto::ActiveCounts>([&](proto::ActiveCounts::Builder counts) {
      if (keys::is_project(project)) {
        counts.setInstances(count(proto::OperationKind::INSTANCE));
        counts.setImports(count(proto::OperationKind::IMAGE_IMPORT));
      }
    });
  });
}

// -- files ---------------------------------------------------------------------------------------

result<frame<proto::FileRecord>> catalog::get_file(proto::GetFile::Reader request) const {
  using answer = frame<proto::FileRecord>;
  return impl_->read<answer>("get file", [&](lmdb::transaction& in) -> result<answer> {
    const auto project = view_of(request.getProject());
    const auto digest = view_of(request.getSha256());
    const auto id = uuid::from(request.getId());
    if (!keys::is_project(project)) {
      return no("file", "", project);
    }
    auto key = keys::project_key(project);
    if (digest.size() == keys::digest_bytes) {
      key += digest;
    } else if (auto found = in.get(impl_->t.file_ids, keys::of(id));
               digest.empty() && found && found->starts_with(key)) {
      key = *found;
    } else {
      return no("file", digest.empty() ? id.text() : "with a digest of that length", project);
    }
    auto file = load<proto::FileRecord>(in, impl_->t.files, key);
    if (file.empty()) {
      return no("file", digest.empty() ? id.text() : "with that digest", project);
    }
    return file;
  });
}

result<frame<proto::FilePage>> catalog::list_files(proto::ListFiles::Reader request) const {
  using answer = frame<proto::FilePage>;
  return impl_->read<answer>("list files", [&](lmdb::transaction& in) -> result<answer> {
    const auto project = view_of(request.getProject());
    std::vector<frame<proto::FileRecord>> rows;
    if (keys::is_project(project)) {
      walk_newest_first(in, impl_->t.file_index, keys::project_key(project), window::of(request),
                        [&](std::string_view, std::string_view value) {
                          rows.push_back(record_in<proto::FileRecord>(in, value));
                        });
    }
    if (in.failed()) {
      return *in.failed();
    }
    return page_of<proto::FilePage>(rows);
  });
}

} // namespace coppice::storage
