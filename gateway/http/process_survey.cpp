#include "gateway/http/process_survey.hpp"

#include "gateway/http/json_records.hpp"

#include <functional>

namespace coppice::gateway {
namespace {

/// No path that was executed is longer.
constexpr std::size_t command_bytes_max = 4096;

void survey_event(proto::Event::Reader event, process_survey& survey) {
  if (event.isSpawn()) {
    survey.first_id = event.getId();
    survey.has_started = true;
    survey.pid = event.getSpawn().getPid();
    survey.command = view(event.getSpawn().getCommand()).substr(0, command_bytes_max);
  } else if (event.isStdout()) {
    survey.out.is_plain = survey.out.is_plain && is_plain(view(event.getStdout()));
  } else if (event.isStderr()) {
    survey.err.is_plain = survey.err.is_plain && is_plain(view(event.getStderr()));
  } else if (event.isTruncated()) {
    (event.getTruncated().getIsStderr() ? survey.err : survey.out).is_truncated = true;
  } else if (event.isExit()) {
    survey.end = copy_frame<proto::RunResult>(event.getExit());
  }
}

using event_sink = std::function<void(proto::Event::Reader)>;

/// Hands over every event so far; gives the id behind the last one.
asio::awaitable<answer<std::uint64_t>> read_all_events(exchange& x, uuid operation,
                                                       event_sink take) {
  std::uint64_t next_id = 0;
  for (;;) {
    auto page = co_await read_events(x, operation, next_id);
    if (page.has_error()) {
      co_return page.error();
    }
    auto events = page->view();
    if (events->getEvents().size() == 0) {
      co_return next_id;
    }
    for (auto event : events->getEvents()) {
      next_id = event.getId() + 1;
      take(event);
    }
  }
}

/// Writes a result whose event log is not kept: the record has the first bytes of its streams.
void write_trimmed_result(json_body& body, const frame<proto::OperationRecord>& operation,
                          proto::OperationRecord::Reader record) {
  auto result = record.getResult();
  auto stream = [&](proto::StreamSummary::Reader summary, capnp::Data::Reader head) {
    return stream_text{summary.getPlain(), summary.getTotalBytes() > head.size(),
                       [&body, operation, head, is_plain = summary.getPlain()] {
                         body.add_value(
                             std::make_unique<bytes_source>(operation, view(head), is_plain));
                       }};
  };
  write_result(body.json, result, stream(result.getStdout(), record.getStdoutHead()),
               stream(result.getStderr(), record.getStderrHead()));
}

/// Writes a result whose event log is there: the record knows what is in it.
void write_final_result(json_body& body, exchange& x, proto::OperationRecord::Reader record) {
  auto result = record.getResult();
  auto stream = [&](bool is_stderr) {
    auto summary = is_stderr ? result.getStderr() : result.getStdout();
    output_range range{uuid::from(record.getId()), main_spid, is_stderr, summary.getPlain()};
    if (record.getEventCount() > 0) {
      range.end_id = record.getEventCount(); // no need to look whether there are more
    }
    bool is_empty = summary.getKeptBytes() == 0;
    return stream_text{summary.getPlain(), summary.getTotalBytes() > summary.getKeptBytes(),
                       [&body, &x, range, is_empty] {
                         if (is_empty) {
                           body.json.value("");
                         } else {
                           body.add_value(std::make_unique<output_source>(x, range));
                         }
                       }};
  };
  write_result(body.json, result, stream(false), stream(true));
}

} // namespace

frame<proto::RunResult> process_survey::result() const {
  if (end) {
    return *end;
  }
  return make_frame<proto::RunResult>([this](auto running) { running.setPid(pid); });
}

asio::awaitable<answer<process_survey>> survey_process(exchange& x, uuid operation,
                                                       std::uint32_t spid) {
  process_survey survey;
  event_sink take = [&survey, spid](proto::Event::Reader event) {
    if (event.getSpid() == spid) {
      survey_event(event, survey);
    }
  };
  auto end_id = co_await read_all_events(x, operation, take);
  if (end_id.has_error()) {
    co_return end_id.error();
  }
  survey.end_id = *end_id;
  co_return survey;
}

asio::awaitable<answer<std::map<std::uint32_t, process_survey>>> survey_processes(exchange& x,
                                                                                  uuid operation) {
  std::map<std::uint32_t, process_survey> surveys;
  event_sink take = [&surveys](proto::Event::Reader event) {
    if (event.getSpid() != 0) {
      survey_event(event, surveys[event.getSpid()]);
    }
  };
  auto end_id = co_await read_all_events(x, operation, take);
  if (end_id.has_error()) {
    co_return end_id.error();
  }
  co_return surveys;
}

void write_surveyed_result(json_body& body, exchange& x, const uuid& operation, std::uint32_t spid,
                           const process_survey& survey) {
  auto stream = [&](bool is_stderr) {
    const auto& found = is_stderr ? survey.err : survey.out;
    output_range range{operation, spid, is_stderr, found.is_plain, survey.first_id, survey.end_id};
    return stream_text{found.is_plain, found.is_truncated, [&body, &x, range] {
                         body.add_value(std::make_unique<output_source>(x, range));
                       }};
  };
  auto result = survey.result();
  auto so_far = result.view();
  write_result(body.json, *so_far, stream(false), stream(true));
}

void write_recorded_result(json_body& body, exchange& x,
                           const frame<proto::OperationRecord>& operation,
                           proto::OperationRecord::Reader record) {
  if (record.getEventsTrimmed()) {
    write_trimmed_result(body, operation, record);
  } else {
    write_final_result(body, x, record);
  }
}

} // namespace coppice::gateway
