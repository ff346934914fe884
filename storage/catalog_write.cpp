#include "storage/catalog.hpp"
#include "storage/catalog_events.hpp"
#include "storage/catalog_images.hpp"
#include "storage/catalog_impl.hpp"
#include "storage/catalog_keys.hpp"
#include "storage/catalog_lineage.hpp"
#include "storage/catalog_operations.hpp"
#include "storage/catalog_request_keys.hpp"
#include "storage/catalog_usage.hpp"
#include "storage/catalog_users.hpp"

#include <string>
#include <utility>

namespace coppice::storage {

namespace {

failure bad_project(std::string_view name) {
  return fail(ec::unsupported, "project name \"" + std::string{name.substr(0, 80)} +
                                   "\": 1 to 64 of a-z 0-9 . _ - are allowed");
}

failure bad_tag() {
  return fail(ec::unsupported, "a tag has 1 to 256 bytes and no NUL");
}

failure no_operation(const uuid& id) {
  return fail(ec::not_found, "no operation " + id.text());
}

failure no_image(const uuid& id, std::string_view project) {
  return fail(ec::not_found, "no image " + id.text() + " in project " + std::string{project});
}

failure is_over(const uuid& id) {
  return fail(ec::conflict, "operation " + id.text() + " has ended and cannot change");
}

/// The ids must go on from `next`.
result<void> check_ids(const uuid& operation, std::uint64_t next,
                       capnp::List<proto::Event>::Reader events) {
  for (auto event : events) {
    if (event.getId() != next) {
      return fail(ec::conflict, "the next event of operation " + operation.text() + " is " +
                                    std::to_string(next) + ", not " +
                                    std::to_string(event.getId()));
    }
    ++next;
  }
  return {};
}

given_index index_of(proto::FinishOperation::Reader request) {
  return request.hasIndex() ? given_index{request.getIndex()} : std::nullopt;
}

result<void> check_new_image(lmdb::transaction& in, const tables& t,
                             proto::ImageRecord::Reader record, given_index index) {
  const auto id = uuid::from(record.getId());
  if (!keys::is_project(view_of(record.getProject()))) {
    return bad_project(view_of(record.getProject()));
  }
  if (record.getSourceDigest().size() != 0 &&
      !keys::is_source_digest(view_of(record.getSourceDigest()))) {
    return fail(ec::unsupported, "a source digest has at most 128 bytes and no NUL");
  }
  if (!id) {
    return fail(ec::unsupported, "an image must have an id");
  }
  if (in.has(t.images, keys::of(id))) {
    return fail(ec::conflict, "image " + id.text() + " is there already; images do not change");
  }
  return check_lineage(in, t, record, index);
}

} // namespace

struct catalog::transaction::impl {
  impl(catalog::impl& of, lmdb::transaction begun) : owner{of}, in{std::move(begun)}, t{of.t} {}

  ~impl() {
    end();
  }

  /// Lets this thread begin another.
  void end() {
    if (!std::exchange(over, true)) {
      owner.writer.store({});
    }
  }

  /// Runs one change. A failure after which the transaction is not what it was ends it.
  template <class T, class Body>
  result<T> change(const char* what, Body&& body) {
    if (over) {
      return fail(ec::conflict, std::string{what} + ": the transaction has been committed");
    }
    if (in.failed()) {
      return *in.failed();
    }
    auto answer = guarded<T>(what, std::forward<Body>(body));
    if (!answer) {
      const auto code = answer.error().code;
      if (code != ec::not_found && code != ec::conflict && code != ec::unsupported &&
          code != ec::busy) {
        in.fail_with(answer.error());
      }
    }
    if (in.failed()) {
      return *in.failed();
    }
    return answer;
  }

  result<void> check_result_image(proto::FinishOperation::Reader request);
  result<void> finish(proto::FinishOperation::Reader request);
  result<void> put(proto::ImageRecord::Reader record, given_index index);

  catalog::impl& owner;
  lmdb::transaction in;
  const tables& t;
  bool over = false;
};

result<catalog::transaction> catalog::begin() {
  if (impl_->writer.load() == std::this_thread::get_id()) {
    return fail(ec::conflict, "this thread has a write transaction already");
  }
  auto begun = lmdb::transaction::begin(impl_->env, lmdb::mode::write);
  if (!begun) {
    return begun.error();
  }
  impl_->writer.store(std::this_thread::get_id());
  return transaction{std::make_unique<transaction::impl>(*impl_, std::move(*begun))};
}

catalog::transaction::transaction(std::unique_ptr<impl> state) : impl_{std::move(state)} {}

catalog::transaction::transaction(transaction&&) noexcept = default;

catalog::transaction::~transaction() = default;

result<void> catalog::transaction::commit() {
  if (impl_->over) {
    return fail(ec::conflict, "the transaction has been committed");
  }
  auto done = impl_->in.commit();
  impl_->end();
  return done;
}

// -- operations ----------------------------------------------------------------------------------

result<void> catalog::transaction::put_operation(proto::OperationRecord::Reader record) {
  return put_operation(record, {});
}

result<void> catalog::transaction::put_operation(proto::OperationRecord::Reader record,
                                                 proto::RequestKey::Reader key) {
  auto& in = impl_->in;
  const auto& t = impl_->t;
  return impl_->change<void>("put operation", [&]() -> result<void> {
    const auto id = uuid::from(record.getId());
    const auto project = view_of(record.getProject());
    if (!keys::is_project(project)) {
      return bad_project(project);
    }
    if (!id) {
      return fail(ec::unsupported, "an operation must have an id");
    }
    if (is_terminal(record.getStatus())) {
      return fail(ec::conflict, "operation " + id.text() +
                                    " can only be ended together with its "
                                    "events and image");
    }
    auto before = load_operation_row(in, t, id);
    std::uint64_t event_count = 0;
    if (!before.empty()) {
      auto stored = before.view();
      if (view_of(stored->getProject()) != project) {
        return fail(ec::conflict, "operation " + id.text() + " belongs to another project");
      }
      if (is_terminal(stored->getStatus())) {
        return is_over(id);
      }
      event_count = stored->getEventCount();
    }
    if (auto known = remember_request(in, t, project, key, id, record.getCreatedAtUnixNs());
        !known) {
      return known;
    }
    write_operation(in, t, before, record, event_count, secrets::keep);
    return {};
  });
}

result<void> catalog::transaction::append_events(const uuid& operation,
                                                 capnp::List<proto::Event>::Reader events) {
  auto& in = impl_->in;
  const auto& t = impl_->t;
  return impl_->change<void>("append events", [&]() -> result<void> {
    auto row = load_operation_row(in, t, operation);
    if (row.empty()) {
      return no_operation(operation);
    }
    auto stored = row.view();
    if (is_terminal(stored->getStatus())) {
      return is_over(operation);
    }
    if (auto fits = check_ids(operation, stored->getEventCount(), events); !fits) {
      return fits.error();
    }
    write_events(in, t, operation, events);
    write_event_count(in, t, row, stored->getEventCount() + events.size());
    return {};
  });
}

/// The image that the record names: the one that comes along, or one that is there.
result<void>
catalog::transaction::impl::check_result_image(proto::FinishOperation::Reader request) {
  const auto record = request.getRecord();
  const auto result_image = uuid::from(record.getResultImage());
  const auto project = view_of(record.getProject());
  if (request.getHasImage()) {
    const auto image = request.getImage();
    if (auto fits = check_new_image(in, t, image, index_of(request)); !fits) {
      return fits.error();
    }
    if (uuid::from(image.getId()) != result_image || view_of(image.getProject()) != project) {
      return fail(ec::conflict, "operation " + uuid::from(record.getId()).text() +
                                    " does not name image " + uuid::from(image.getId()).text() +
                                    " of its project as its result");
    }
  }
  const bool is_named = request.getTag().size() != 0 ||
                        (result_image && record.getStatus() == proto::OperationStatus::SUCCESS);
  if (request.getTag().size() != 0 && !keys::is_tag(view_of(request.getTag()))) {
    return bad_tag();
  }
  // An import's may have been deleted since it was found; a run's is held by its operation.
  if (is_named && !request.getHasImage() && load_image(in, t, project, result_image).empty()) {
    return no_image(result_image, project);
  }
  return {};
}

result<void> catalog::transaction::impl::finish(proto::FinishOperation::Reader request) {
  const auto record = request.getRecord();
  const auto id = uuid::from(record.getId());
  if (!is_terminal(record.getStatus())) {
    return fail(ec::conflict, "operation " + id.text() + " cannot end in a state that goes on");
  }
  auto before = load_operation_row(in, t, id);
  if (before.empty() || view_of(before.view()->getProject()) != view_of(record.getProject())) {
    return no_operation(id);
  }
  auto stored = before.view();
  if (is_terminal(stored->getStatus())) {
    return is_over(id);
  }
  if (auto fits = check_ids(id, stored->getEventCount(), request.getEvents()); !fits) {
    return fits.error();
  }
  if (auto fits = check_result_image(request); !fits) {
    return fits.error();
  }
  write_events(in, t, id, request.getEvents());
  write_operation(in, t, before, record, stored->getEventCount() + request.getEvents().size(),
                  secrets::erase);
  if (request.getHasImage()) {
    insert_image(in, t, request.getImage());
    insert_lineage(in, t, request.getImage(), index_of(request));
  }
  if (request.getTag().size() != 0) {
    auto image =
        load_image(in, t, view_of(record.getProject()), uuid::from(record.getResultImage()));
    if (!image.empty()) {
      attach_tag(in, t, *image.view(), view_of(request.getTag()));
    }
  }
  return {};
}

result<void> catalog::transaction::finish_operation(proto::FinishOperation::Reader request) {
  return impl_->change<void>("finish operation", [&] { return impl_->finish(request); });
}

result<frame<proto::EventsTrimmed>>
catalog::transaction::trim_events(proto::TrimEvents::Reader policy) {
  using answer = frame<proto::EventsTrimmed>;
  return impl_->change<answer>(
      "trim events", [&]() -> result<answer> { return trim_logs(impl_->in, impl_->t, policy); });
}

// -- images --------------------------------------------------------------------------------------

result<void> catalog::transaction::impl::put(proto::ImageRecord::Reader record, given_index index) {
  return change<void>("put image", [&]() -> result<void> {
    if (auto fits = check_new_image(in, t, record, index); !fits) {
      return fits.error();
    }
    insert_image(in, t, record);
    insert_lineage(in, t, record, index);
    return {};
  });
}

result<void> catalog::transaction::put_image(proto::ImageRecord::Reader record) {
  return impl_->put(record, std::nullopt);
}

result<void> catalog::transaction::put_image(proto::ImageRecord::Reader record,
                                             proto::ImageIndex::Reader index) {
  return impl_->put(record, index);
}

result<image_deletion> catalog::transaction::delete_image(std::string_view project,
                                                          const uuid& image, with_tags tags) {
  auto& in = impl_->in;
  const auto& t = impl_->t;
  return impl_->change<image_deletion>("delete image", [&]() -> result<image_deletion> {
    auto record = load_image(in, t, project, image);
    if (record.empty()) {
      return no_image(image, project);
    }
    if (auto user = find_image_user(in, t, image)) {
      return fail(ec::conflict, "image " + image.text() + " is in use: operation " + user->text() +
                                    " has not ended");
    }
    for (auto tag = next_tag(in, t, image); tag; tag = next_tag(in, t, image)) {
      if (tags == with_tags::no) {
        return fail(ec::conflict,
                    "image " + image.text() + " has the tag " + *tag + ": remove its tags first");
      }
      if (!detach_tag(in, t, project, image, *tag)) {
        return fail(ec::damaged,
                    "the catalog's tags of image " + image.text() + " contradict themselves");
      }
    }
    erase_image(in, t, *record.view());
    return erase_lineage(in, t, image);
  });
}

result<frame<proto::ImageRow>> catalog::transaction::set_tag(proto::SetTag::Reader request) {
  using answer = frame<proto::ImageRow>;
  auto& in = impl_->in;
  const auto& t = impl_->t;
  return impl_->change<answer>("set tag", [&]() -> result<answer> {
    const auto id = uuid::from(request.getImage());
    const auto project = view_of(request.getProject());
    const auto tag = view_of(request.getTag());
    if (!keys::is_project(project)) {
      return bad_project(project);
    }
    if (!keys::is_tag(tag)) {
      return bad_tag();
    }
    auto image = load_image(in, t, project, id);
    if (image.empty()) {
      return no_image(id, project);
    }
    attach_tag(in, t, *image.view(), tag);
    return make_image_row(*image.view(), tag);
  });
}

result<void> catalog::transaction::remove_tag(proto::RemoveTag::Reader request) {
  auto& in = impl_->in;
  const auto& t = impl_->t;
  return impl_->change<void>("remove tag", [&]() -> result<void> {
    const auto id = uuid::from(request.getImage());
    const auto project = view_of(request.getProject());
    const auto tag = view_of(request.getTag());
    if (load_image(in, t, project, id).empty()) {
      return no_image(id, project);
    }
    if (tag.empty()) {
      while (auto any = next_tag(in, t, id)) {
        if (!detach_tag(in, t, project, id, *any)) {
          return fail(ec::damaged,
                      "the catalog's tags of image " + id.text() + " contradict themselves");
        }
      }
      return {};
    }
    if (!keys::is_tag(tag) || !detach_tag(in, t, project, id, tag)) {
      return fail(ec::not_found, "image " + id.text() + " does not have the tag " +
                                     std::string{tag.substr(0, keys::tag_bytes_max)});
    }
    return {};
  });
}

// -- files and tokens ----------------------------------------------------------------------------

result<frame<proto::FileRecord>> catalog::transaction::put_file(proto::PutFile::Reader request) {
  using answer = frame<proto::FileRecord>;
  auto& in = impl_->in;
  const auto& t = impl_->t;
  return impl_->change<answer>("put file", [&]() -> result<answer> {
    const auto record = request.getRecord();
    const auto project = view_of(record.getProject());
    const auto digest = view_of(record.getSha256());
    if (!keys::is_project(project)) {
      return bad_project(project);
    }
    if (digest.size() != keys::digest_bytes || !uuid::from(record.getId())) {
      return fail(ec::unsupported, "a file must have an id and a digest of 32 bytes");
    }
    const auto scope = keys::project_key(project);
    const auto key = scope + std::string{digest};
    auto index_key = [&](std::int64_t updated) {
      return scope + keys::newest_first(updated) + std::string{digest};
    };
    auto known = load<proto::FileRecord>(in, t.files, key);
    if (known.empty() && in.has(t.file_ids, keys::of(uuid::from(record.getId())))) {
      return fail(ec::conflict, "file " + uuid::from(record.getId()).text() +
                                    " is there already, with another digest");
    }
    if (auto allowed =
            remember_request(in, t, project, request.getKey(), {}, record.getUpdatedAtUnixNs());
        !allowed) {
      return allowed.error();
    }
    capnp::MallocMessageBuilder message;
    if (known.empty()) {
      message.setRoot(record);
      in.put(t.file_ids, keys::of(uuid::from(record.getId())), key);
      change_usage(in, t, project, usage_of(record));
      insert_blob_user(in, t, digest, project);
    } else {
      message.setRoot(*known.view());
      in.erase(t.file_index, index_key(known.view()->getUpdatedAtUnixNs()));
      message.getRoot<proto::FileRecord>().setUpdatedAtUnixNs(record.getUpdatedAtUnixNs());
    }
    answer stored{message};
    store(in, t.files, key, stored);
    store(in, t.file_index, index_key(record.getUpdatedAtUnixNs()), stored);
    return stored;
  });
}

result<void> catalog::transaction::put_token(const sha256& digest,
                                             proto::TokenRecord::Reader record) {
  auto& in = impl_->in;
  const auto& t = impl_->t;
  return impl_->change<void>("put token", [&]() -> result<void> {
    if (!keys::is_project(view_of(record.getProject()))) {
      return bad_project(view_of(record.getProject()));
    }
    store(in, t.tokens, {reinterpret_cast<const char*>(digest.data()), digest.size()},
          copy_frame<proto::TokenRecord>(record));
    return {};
  });
}

} // namespace coppice::storage
