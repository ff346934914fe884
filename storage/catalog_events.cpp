#include "storage/catalog_events.hpp"

#include "storage/catalog.hpp"
#include "storage/catalog_impl.hpp"
#include "storage/catalog_keys.hpp"
#include "storage/catalog_operations.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

namespace coppice::storage {

namespace {

std::string log_key(std::int64_t ended_unix_ns, const uuid& operation) {
  return keys::oldest_first(ended_unix_ns) + keys::of(operation);
}

std::string head_key(const uuid& operation, bool is_stderr) {
  return keys::of(operation) + (is_stderr ? '\1' : '\0');
}

/// The log that ended first.
struct oldest_log {
  std::int64_t ended_unix_ns = 0;
  uuid operation;
};

std::optional<oldest_log> find_oldest(lmdb::transaction& in, const tables& t) {
  lmdb::cursor at{in, t.event_logs};
  if (!at.seek(keys::oldest_first(INT64_MIN))) {
    return std::nullopt;
  }
  return oldest_log{keys::time_of_oldest_first(at.key()),
                    keys::id_of(at.key().substr(keys::time_bytes))};
}

std::vector<std::string> first_events(lmdb::transaction& in, const tables& t, const uuid& operation,
                                      std::size_t events_max) {
  std::vector<std::string> found;
  const auto prefix = keys::of(operation);
  lmdb::cursor at{in, t.events};
  for (bool more = at.seek(prefix);
       more && found.size() < events_max && at.key().starts_with(prefix); more = at.next()) {
    found.emplace_back(at.key());
  }
  return found;
}

/// The first bytes of both streams, as events go by.
class output_heads {
public:
  output_heads(lmdb::transaction& in, const tables& t, const uuid& operation)
      : in_{in}, t_{t}, operation_{operation}, heads_{output_head(in, t, operation, false),
                                                      output_head(in, t, operation, true)} {}

  bool is_full() const {
    return heads_[0].size() >= output_head_bytes_max && heads_[1].size() >= output_head_bytes_max;
  }

  void take(proto::Event::Reader event) {
    if (event.getSpid() != 1 || !(event.isStdout() || event.isStderr())) {
      return;
    }
    const auto data = view_of(event.isStderr() ? event.getStderr() : event.getStdout());
    auto& head = heads_[event.isStderr() ? 1 : 0];
    head += data.substr(0, output_head_bytes_max - std::min(head.size(), output_head_bytes_max));
  }

  void save() {
    for (bool is_stderr : {false, true}) {
      const auto& head = heads_[is_stderr ? 1 : 0];
      if (!head.empty()) {
        in_.put(t_.output_heads, head_key(operation_, is_stderr), head);
      }
    }
  }

private:
  lmdb::transaction& in_;
  const tables& t_;
  uuid operation_;
  std::array<std::string, 2> heads_;
};

/// Erases up to `rows_max` rows of a log, front to back; the row in event_logs goes last.
std::uint32_t trim_one(lmdb::transaction& in, const tables& t, const oldest_log& log,
                       std::uint32_t rows_max, bool& is_whole) {
  std::uint32_t rows = 0;
  auto row = load_operation_row(in, t, log.operation);
  if (row.empty()) {
    in.fail_with(fail(ec::damaged, "the catalog has a log of operation " + log.operation.text() +
                                       " but no record of it"));
    return rows;
  }
  if (!row.view()->getEventsTrimmed()) {
    mark_trimmed(in, t, row);
    ++rows;
  }
  const auto events = first_events(in, t, log.operation, rows_max - rows);
  output_heads heads{in, t, log.operation};
  for (const auto& key : events) {
    if (!heads.is_full()) {
      if (auto event = load<proto::Event>(in, t.events, key); !event.empty()) {
        heads.take(*event.view());
      }
    }
    in.erase(t.events, key);
  }
  heads.save();
  rows += static_cast<std::uint32_t>(events.size());
  if (rows < rows_max) { // then there were no more
    in.erase(t.event_logs, log_key(log.ended_unix_ns, log.operation));
    is_whole = true;
    ++rows;
  }
  return rows;
}

} // namespace

void write_events(lmdb::transaction& in, const tables& t, const uuid& operation,
                  capnp::List<proto::Event>::Reader events) {
  const auto prefix = keys::of(operation);
  for (auto event : events) {
    store(in, t.events, prefix + keys::big_endian(event.getId()), copy_frame<proto::Event>(event));
  }
}

void insert_log(lmdb::transaction& in, const tables& t, proto::OperationRecord::Reader row) {
  if (is_terminal(row.getStatus()) && row.getEventCount() != 0 && !row.getEventsTrimmed()) {
    in.put(t.event_logs, log_key(row.getEndedAtUnixNs(), uuid::from(row.getId())), {});
  }
}

std::string output_head(lmdb::transaction& in, const tables& t, const uuid& operation,
                        bool is_stderr) {
  auto head = in.get(t.output_heads, head_key(operation, is_stderr));
  return head ? std::string{*head} : std::string{};
}

frame<proto::EventsTrimmed> trim_logs(lmdb::transaction& in, const tables& t,
                                      proto::TrimEvents::Reader policy) {
  const auto rows_max = std::min(policy.getRowsMax(), trim_rows_max);
  std::uint32_t rows = 0;
  std::uint32_t logs = 0;
  bool is_due = false;
  for (;;) {
    const auto oldest = find_oldest(in, t);
    is_due = oldest && (oldest->ended_unix_ns < policy.getEndedBeforeUnixNs() ||
                        in.entries(t.event_logs) > policy.getLogsKeptMax());
    if (!is_due || rows >= rows_max || in.failed()) {
      break;
    }
    bool is_whole = false;
    rows += trim_one(in, t, *oldest, rows_max - rows, is_whole);
    logs += is_whole ? 1 : 0;
  }
  return make_frame<proto::EventsTrimmed>([&](proto::EventsTrimmed::Builder to) {
    to.setRows(rows);
    to.setLogs(logs);
    to.setMore(is_due);
  });
}

// -- reading -------------------------------------------------------------------------------------

namespace {

/// From `first_id` on without a gap, up to the one that reaches `bytes_max`.
std::vector<frame<proto::Event>> load_events(lmdb::transaction& in, const tables& t,
                                             const uuid& operation, std::uint64_t first_id,
                                             std::size_t bytes_max) {
  const auto prefix = keys::of(operation);
  std::vector<frame<proto::Event>> events;
  std::size_t bytes = 0;
  do {
    auto event = load<proto::Event>(in, t.events, prefix + keys::big_endian(first_id));
    if (event.empty()) {
      break;
    }
    bytes += event.bytes().size();
    events.push_back(std::move(event));
    ++first_id;
  } while (bytes < bytes_max);
  return events;
}

} // namespace

result<frame<proto::EventPage>> catalog::list_events(proto::ListEvents::Reader request) const {
  using answer = frame<proto::EventPage>;
  // A reader that wants more comes again; a page must not hold a whole log.
  constexpr std::size_t page_bytes_max = 4u << 20;
  return impl_->read<answer>("list events", [&](lmdb::transaction& in) -> result<answer> {
    const auto operation = uuid::from(request.getOperation());
    auto row = load_operation_row(in, impl_->t, operation);
    if (!row.empty() && row.view()->getEventsTrimmed()) {
      return fail(ec::gone, "the event log of operation " + operation.text() +
                                " is not kept any longer (events.keep, events.keep_operations)");
    }
    const auto events = load_events(in, impl_->t, operation, request.getFirstId(),
                                    std::min<std::size_t>(request.getMaxBytes(), page_bytes_max));
    return make_frame<proto::EventPage>([&](proto::EventPage::Builder page) {
      auto list = page.initEvents(static_cast<unsigned>(events.size()));
      for (std::size_t i = 0; i < events.size(); ++i) {
        auto event = events[i].view();
        list.setWithCaveats(static_cast<unsigned>(i), *event);
      }
    });
  });
}

} // namespace coppice::storage
