#include "gateway/http/body_sources.hpp"
#include "gateway/http/json_records.hpp"
#include "gateway/http/outcome.hpp"
#include "gateway/http/process_survey.hpp"
#include "gateway/http/routes.hpp"

#include <optional>

namespace coppice::gateway {
namespace {

/// Of an answer without output; clients poll for it.
constexpr std::size_t operation_bytes_usual = 2u << 10;

/// Up to here standard input is written at once.
constexpr std::size_t stdin_bytes_small = 4u << 10;

void write_instance_metadata(json_body& body, exchange& x,
                             const frame<proto::OperationRecord>& operation,
                             proto::OperationRecord::Reader record, const process_survey* survey) {
  auto request = record.getRequest().getInstance();
  auto& json = body.json;
  json.begin_object();
  write_run_members(json, request, [&] {
    const auto text = view(request.getStdin());
    const bool is_text = !echoes_base64(request);
    if (is_text && text.size() <= stdin_bytes_small) {
      json.value(text);
    } else {
      body.add_value(std::make_unique<bytes_source>(operation, text, is_text));
    }
  });
  json.key("result");
  if (record.getHasResult()) {
    write_recorded_result(body, x, operation, record);
  } else if (survey && survey->has_started) {
    write_surveyed_result(body, x, uuid::from(record.getId()), main_spid, *survey);
  } else {
    json.value(nullptr);
  }
  json.end_object();
}

void write_product(json_writer& json, proto::OperationRecord::Reader record) {
  if (record.getStatus() != proto::OperationStatus::SUCCESS) {
    json.value(nullptr);
    return;
  }
  auto image = uuid::from(record.getResultImage());
  auto tag = view(record.getResultTag());
  json.begin_object();
  json.member("image", image ? std::optional{image.text()} : std::nullopt);
  json.member("tag", tag.empty() ? std::nullopt : std::optional{tag});
  json.end_object();
}

std::string_view name_of(proto::VmStart way) {
  switch (way) {
  case proto::VmStart::NONE:
    break;
  case proto::VmStart::COLD:
    return "cold";
  case proto::VmStart::TEMPLATE:
    return "template";
  case proto::VmStart::POOL:
    return "pool";
  }
  return "none";
}

/// Ours, beside the contract: how the run's VM came to be, and where the time of a run went, in
/// microseconds.
void write_metrics(json_writer& json, proto::Phases::Reader phases) {
  json.begin_object();
  json.member("vm_start", name_of(phases.getVmStart()));
  json.key("phases");
  json.begin_object();
  json.member("queue_us", phases.getQueueUs());
  json.member("overlay_us", phases.getOverlayUs());
  json.member("boot_us", phases.getBootUs());
  json.member("mount_us", phases.getMountUs());
  json.member("exec_us", phases.getExecUs());
  json.member("unmount_us", phases.getUnmountUs());
  json.member("close_us", phases.getCloseUs());
  json.member("seal_us", phases.getSealUs());
  json.member("total_us", phases.getTotalUs());
  json.end_object();
  json.end_object();
}

/// Ours, beside the contract: where a waiting operation stands among those of its project.
void write_queue(json_writer& json, proto::QueuePlace::Reader place) {
  json.begin_object();
  json.member("position", place.getPosition());
  json.member("waited_us", place.getWaitedUs());
  json.end_object();
}

/// What only the live parts of the server know of an operation.
struct live_view {
  process_survey output;
  std::optional<frame<proto::QueuePlace>> place; ///< while it waits for a slot
};

reply operation_reply(exchange& x, const frame<proto::OperationRecord>& operation,
                      const live_view* live) {
  auto record = operation.view();
  json_body body;
  auto& json = body.json;
  json.reserve(operation_bytes_usual);
  json.begin_object();
  write_summary_members(json, *record);
  json.key("metadata");
  if (record->getRequest().isInstance()) {
    write_instance_metadata(body, x, operation, *record, live ? &live->output : nullptr);
  } else {
    write_import(json, record->getRequest().getImport());
  }
  json.key("result");
  write_product(json, *record);
  // Ours, beside the contract.
  const auto outcome = outcome_of(*record);
  json.member("outcome", outcome ? std::optional{outcome->name} : std::nullopt);
  json.member("retryable", outcome && outcome->is_retryable);
  if (record->getRequest().isInstance() && record->getHasResult()) {
    json.key("metrics");
    write_metrics(json, record->getPhases());
  }
  if (live && live->place) {
    json.key("queue");
    write_queue(json, *live->place->view());
  }
  json.end_object();
  reply out;
  if (!is_terminal(record->getStatus())) {
    out.headers.emplace_back("Retry-After", "1");
  }
  body.finish(out);
  return out;
}

/// The status and kind filters of a listing. 400 for names that are none.
answer<frame<proto::ListOperations>> parse_listing(const exchange& x) {
  auto page = parse_page(x.query());
  if (page.has_error()) {
    return page.error();
  }
  auto status_text = x.query().find("status").value_or("");
  auto kind_text = x.query().find("kind").value_or("");
  auto status = parse_status(status_text);
  auto kind = parse_kind(kind_text);
  if (!status_text.empty() && !status) {
    return bad_request("status must be PENDING, ASSIGNED, EXECUTING, SUCCESS, FAILED or CANCELLED");
  }
  if (!kind_text.empty() && !kind) {
    return bad_request("kind must be instance or image_import");
  }
  return make_frame<proto::ListOperations>([&](auto root) {
    fill_page(root, *page, x.who.project);
    root.setFilterStatus(status.has_value());
    root.setStatus(status.value_or(proto::OperationStatus::PENDING));
    root.setFilterKind(kind.has_value());
    root.setKind(kind.value_or(proto::OperationKind::INSTANCE));
  });
}

} // namespace

asio::awaitable<reply> get_operations(exchange& x) {
  auto request = parse_listing(x);
  if (request.has_error()) {
    co_return reply{request.error()};
  }
  auto found = co_await x.read<proto::OperationPage>(x.inside().catalog, std::move(*request));
  if (found.has_error()) {
    co_return reply{found.error()};
  }
  auto rows = found->view();
  json_writer json;
  json.begin_array();
  for (auto record : rows->getRows()) {
    json.begin_object();
    write_summary_members(json, record);
    json.end_object();
  }
  json.end_array();
  co_return reply{200, json.take()};
}

asio::awaitable<reply> get_operation(exchange& x) {
  auto id = parse_id(x.params[0], "operation");
  if (id.has_error()) {
    co_return reply{id.error()};
  }
  auto is_inflight = x.query().flag("inflight");
  if (is_inflight.has_error()) {
    co_return reply{is_inflight.error()};
  }
  auto found = co_await find_operation(x, *id);
  if (found.has_error()) {
    co_return reply{found.error()};
  }
  bool is_live = !is_terminal(found->view()->getStatus());
  if (!*is_inflight || !is_live) {
    co_return operation_reply(x, *found, nullptr);
  }
  auto flush = make_frame<proto::FlushOperation>([&](auto root) { id->to(root.initId()); });
  auto flushed = co_await x.write<proto::Done>(x.inside().operations, std::move(flush));
  if (flushed.has_error()) {
    co_return reply{flushed.error()};
  }
  // It may have ended meanwhile; then the record says more than the log.
  auto again = co_await find_operation(x, *id);
  if (again.has_error()) {
    co_return reply{again.error()};
  }
  live_view live;
  auto survey = co_await survey_process(x, *id, main_spid);
  if (survey.has_error()) {
    co_return reply{survey.error()};
  }
  live.output = *survey;
  if (again->view()->getStatus() == proto::OperationStatus::PENDING) {
    auto ask_place =
        make_frame<proto::GetQueuePlace>([&](auto root) { id->to(root.initOperation()); });
    auto place = co_await x.read<proto::QueuePlace>(x.inside().scheduler, std::move(ask_place));
    if (place.has_error()) {
      co_return reply{place.error()};
    }
    if (place->view()->getWaiting()) {
      live.place = std::move(*place);
    }
  }
  co_return operation_reply(x, *again, &live);
}

asio::awaitable<reply> delete_operation(exchange& x) {
  auto id = parse_id(x.params[0], "operation");
  if (id.has_error()) {
    co_return reply{id.error()};
  }
  auto request = make_frame<proto::CancelOperation>([&](auto root) {
    root.setProject(x.who.project);
    id->to(root.initId());
  });
  auto cancelled =
      co_await x.write<proto::OperationRecord>(x.inside().operations, std::move(request));
  if (cancelled.has_error()) {
    co_return reply{cancelled.error()};
  }
  auto record = cancelled->view();
  json_writer json;
  json.begin_object();
  json.member("uuid", uuid::from(record->getId()).text());
  json.member("status", status_name(record->getStatus()));
  json.end_object();
  co_return reply{202, json.take()};
}

} // namespace coppice::gateway
