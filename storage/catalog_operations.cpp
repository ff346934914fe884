#include "storage/catalog_operations.hpp"

#include "storage/catalog_events.hpp"
#include "storage/catalog_keys.hpp"
#include "storage/catalog_users.hpp"

#include <algorithm>
#include <string>

namespace coppice::storage {

namespace {

/// Longer texts stay out of rows: a page of a thousand rows is then a few megabytes at most.
constexpr std::size_t row_text_bytes_max = 1024;

/// At most that many bytes, not cut inside a UTF-8 character.
capnp::Text::Reader shortened(capnp::Text::Reader text, std::string& room) {
  if (text.size() <= row_text_bytes_max) {
    return text;
  }
  std::size_t end = row_text_bytes_max;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0u) == 0x80u) {
    --end;
  }
  room.assign(text.begin(), end);
  return {room.data(), room.size()};
}

void fill_row_request(proto::OperationRecord::Request::Reader from,
                      proto::OperationRecord::Request::Builder to) {
  std::string room;
  if (from.isInstance()) {
    auto whole = from.getInstance();
    auto row = to.initInstance();
    row.initProcess().setCommand(shortened(whole.getProcess().getCommand(), room));
    row.setImage(whole.getImage());
    row.setImageReference(shortened(whole.getImageReference(), room));
    row.setDisposable(whole.getDisposable());
    row.setTimeoutSeconds(whole.getTimeoutSeconds());
    row.setMaxLayerBytes(whole.getMaxLayerBytes());
    return;
  }
  auto whole = from.getImport();
  auto row = to.initImport();
  row.setUrl(shortened(whole.getUrl(), room));
  row.setTag(shortened(whole.getTag(), room));
  row.setTimeoutSeconds(whole.getTimeoutSeconds());
  row.setHasCredentials(whole.getHasCredentials());
}

enum class log_state { kept, trimmed };

/// Everything but what may be large.
frame<proto::OperationRecord> make_row(proto::OperationRecord::Reader from,
                                       std::uint64_t event_count, log_state log) {
  return make_frame<proto::OperationRecord>([&](proto::OperationRecord::Builder to) {
    std::string room;
    to.setId(from.getId());
    to.setProject(from.getProject());
    to.setKind(from.getKind());
    to.setStatus(from.getStatus());
    to.setCreatedAtUnixNs(from.getCreatedAtUnixNs());
    to.setEndedAtUnixNs(from.getEndedAtUnixNs());
    to.setDurationUs(from.getDurationUs());
    to.setError(shortened(from.getError(), room));
    fill_row_request(from.getRequest(), to.getRequest());
    to.setResultImage(from.getResultImage());
    to.setResultTag(from.getResultTag());
    to.setResultImageSizeBytes(from.getResultImageSizeBytes());
    to.setResult(from.getResult());
    to.setHasResult(from.getHasResult());
    to.setPhases(from.getPhases());
    to.setEventCount(event_count);
    to.setEventsTrimmed(log == log_state::trimmed);
    to.setTaskFault(from.getTaskFault());
  });
}

void set_request(proto::OperationRecord::Request::Reader from,
                 proto::OperationRecord::Request::Builder to) {
  if (from.isInstance()) {
    to.setInstance(from.getInstance());
  } else {
    to.setImport(from.getImport());
  }
}

/// What a row leaves out or shortens.
frame<proto::OperationRecord> make_details(proto::OperationRecord::Reader from, secrets password) {
  auto whole = [&](auto to) {
    to.setError(from.getError());
    auto request = from.getRequest();
    if (password == secrets::keep || !request.isImport()) {
      set_request(request, to.getRequest());
      return;
    }
    // Field by field: what was set and then erased would still be in the message's bytes.
    auto source = request.getImport();
    auto import = to.getRequest().initImport();
    import.setUrl(source.getUrl());
    import.setUsername(source.getUsername());
    import.setTag(source.getTag());
    import.setTimeoutSeconds(source.getTimeoutSeconds());
    import.setOciLayout(source.getOciLayout());
    import.setHasCredentials(source.getHasCredentials());
  };
  return make_frame<proto::OperationRecord>(whole);
}

/// One row for each combination of filters, so that each pages without a scan.
template <class Use>
void for_each_index_key(proto::OperationRecord::Reader row, Use&& use) {
  const auto project = view_of(row.getProject());
  const auto rest =
      keys::newest_first(row.getCreatedAtUnixNs()) + keys::of(uuid::from(row.getId()));
  use(operation_index_prefix(project, std::nullopt, std::nullopt) + rest);
  use(operation_index_prefix(project, row.getStatus(), std::nullopt) + rest);
  use(operation_index_prefix(project, std::nullopt, row.getKind()) + rest);
  use(operation_index_prefix(project, row.getStatus(), row.getKind()) + rest);
}

capnp::Data::Reader data_of(std::string_view bytes) {
  return {reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()};
}

std::string unfinished_key(proto::OperationRecord::Reader row) {
  return keys::oldest_first(row.getCreatedAtUnixNs()) + keys::of(uuid::from(row.getId()));
}

void store_if_changed(lmdb::transaction& in, lmdb::table into, std::string_view key,
                      const frame<proto::OperationRecord>& record) {
  auto bytes = record.bytes();
  auto stored = in.get(into, key);
  if (stored && stored->size() == bytes.size() &&
      std::memcmp(stored->data(), bytes.data(), bytes.size()) == 0) {
    return;
  }
  store(in, into, key, record);
}

} // namespace

std::string operation_index_prefix(std::string_view project,
                                   std::optional<proto::OperationStatus> status,
                                   std::optional<proto::OperationKind> kind) {
  auto key = keys::project_key(project);
  key += static_cast<char>(status ? static_cast<int>(*status) + 1 : 0);
  key += static_cast<char>(kind ? static_cast<int>(*kind) + 1 : 0);
  return key;
}

void write_operation(lmdb::transaction& in, const tables& t,
                     const frame<proto::OperationRecord>& before,
                     proto::OperationRecord::Reader record, std::uint64_t event_count,
                     secrets password) {
  if (!before.empty()) {
    auto old = before.view();
    for_each_index_key(*old, [&](const std::string& key) { in.erase(t.operation_index, key); });
    in.erase(t.unfinished, unfinished_key(*old));
  }
  const auto id = keys::of(uuid::from(record.getId()));
  const auto row = make_row(record, event_count, log_state::kept);
  store(in, t.operations, id, row);
  store_if_changed(in, t.operation_details, id, make_details(record, password));
  for_each_index_key(record, [&](const std::string& key) { in.put(t.operation_index, key, {}); });
  if (!is_terminal(record.getStatus())) {
    in.put(t.unfinished, unfinished_key(record), {});
  }
  insert_log(in, t, *row.view());
  follow_image_user(in, t, before, record);
}

void write_event_count(lmdb::transaction& in, const tables& t,
                       const frame<proto::OperationRecord>& row, std::uint64_t event_count) {
  auto v = row.view();
  store(in, t.operations, keys::of(uuid::from(v->getId())),
        make_row(*v, event_count, log_state::kept));
}

void mark_trimmed(lmdb::transaction& in, const tables& t,
                  const frame<proto::OperationRecord>& row) {
  auto v = row.view();
  store(in, t.operations, keys::of(uuid::from(v->getId())),
        make_row(*v, v->getEventCount(), log_state::trimmed));
}

frame<proto::OperationRecord> load_operation_row(lmdb::transaction& in, const tables& t,
                                                 const uuid& id) {
  return load<proto::OperationRecord>(in, t.operations, keys::of(id));
}

frame<proto::OperationRecord> load_whole_operation(lmdb::transaction& in, const tables& t,
                                                   const frame<proto::OperationRecord>& row) {
  auto slim = row.view();
  auto details =
      load<proto::OperationRecord>(in, t.operation_details, keys::of(uuid::from(slim->getId())));
  if (details.empty()) {
    in.fail_with(fail(ec::damaged, "the catalog has only a part of operation " +
                                       uuid::from(slim->getId()).text()));
    return {};
  }
  auto heavy = details.view();
  capnp::MallocMessageBuilder message{static_cast<capnp::uint>(
      std::min<std::size_t>(row.words().size() + details.words().size(), 1u << 20))};
  message.setRoot(*slim);
  auto whole = message.getRoot<proto::OperationRecord>();
  whole.setError(heavy->getError());
  set_request(heavy->getRequest(), whole.getRequest());
  if (slim->getEventsTrimmed()) {
    const auto id = uuid::from(slim->getId());
    whole.setStdoutHead(data_of(output_head(in, t, id, false)));
    whole.setStderrHead(data_of(output_head(in, t, id, true)));
  }
  return frame<proto::OperationRecord>{message};
}

} // namespace coppice::storage
