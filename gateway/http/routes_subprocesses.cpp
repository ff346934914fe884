#include "gateway/http/body_sources.hpp"
#include "gateway/http/json_fields.hpp"
#include "gateway/http/json_records.hpp"
#include "gateway/http/names.hpp"
#include "gateway/http/process_order.hpp"
#include "gateway/http/process_survey.hpp"
#include "gateway/http/request_key.hpp"
#include "gateway/http/routes.hpp"

#include <boost/json/object.hpp>

#include <charconv>
#include <optional>

// The processes of a running operation.

namespace coppice::gateway {
namespace {

/// A spid from the path; what is no number names nothing that exists: 404.
answer<std::uint32_t> parse_spid(std::string_view text) {
  std::uint32_t spid = 0;
  auto end = text.data() + text.size();
  auto [stopped, error] = std::from_chars(text.data(), end, spid);
  if (error != std::errc{} || stopped != end || spid == 0) {
    return not_found("no such process of this operation");
  }
  return spid;
}

/// An operation whose processes a request is about.
struct process_target {
  uuid operation;
  frame<proto::OperationRecord> record;
  std::uint32_t spid = 0;

  bool is_over() const {
    return is_terminal(record.view()->getStatus());
  }
};

/// 404: no such operation; 409: one without processes.
asio::awaitable<answer<process_target>> find_target(exchange& x) {
  process_target target;
  auto id = parse_id(x.params[0], "operation");
  if (id.has_error()) {
    co_return id.error();
  }
  auto found = co_await find_operation(x, *id);
  if (found.has_error()) {
    co_return found.error();
  }
  if (!found->view()->getRequest().isInstance()) {
    co_return refusal{409, "this operation is an import: it has no processes"};
  }
  target.operation = *id;
  target.record = std::move(*found);
  if (x.params.size() > 1) {
    auto spid = parse_spid(x.params[1]);
    if (spid.has_error()) {
      co_return spid.error();
    }
    target.spid = *spid;
  }
  co_return target;
}

/// Who may start a run like this one may also act in it.
bool may_act(const exchange& x, const process_target& target) {
  auto record = target.record.view();
  return x.who.may(may_spawn) ||
         (record->getRequest().getInstance().getDisposable() && x.who.may(may_spawn_disposable));
}

/// Gives an order to the operation's run; `fill` says which.
template <class Fill>
asio::awaitable<answer<frame<proto::ProcessAnswer>>>
order_process(exchange& x, process_target target, Fill fill) {
  if (target.is_over()) {
    co_return refusal{409, "the operation has already ended as " +
                               std::string{status_name(target.record.view()->getStatus())}};
  }
  auto order = make_frame<proto::ProcessOrder>([&](auto root) {
    root.setProject(x.who.project);
    target.operation.to(root.initOperation());
    root.setSpid(target.spid);
    fill(root);
  });
  co_return co_await x.write<proto::ProcessAnswer>(x.inside().operations, std::move(order));
}

/// The same once for each Idempotency-Key, whose request has been read; answers the spid of a
/// process that was started, now or before.
template <class Fill>
asio::awaitable<answer<std::uint32_t>> order_once(exchange& x, process_target target, Fill fill) {
  auto key = key_of(x, x.body_sha256);
  if (key.has_error()) {
    co_return key.error();
  }
  auto turn = co_await x.server.process_keys.take(x.who.project, key->name, key->digest,
                                                  process_keys::clock::now());
  if (turn.has_error()) {
    co_return turn.error();
  }
  if (turn->earlier()) {
    co_return *turn->earlier();
  }
  // It may stand for what the catalog remembers, which never is a request to a process.
  auto other = co_await find_earlier(x, *key);
  if (other.has_error()) {
    co_return other.error();
  }
  auto done = co_await order_process(x, std::move(target), fill);
  if (done.has_error()) {
    if (done.error().may_be_done) {
      turn->left_open();
    }
    co_return done.error();
  }
  const auto spid = done->view()->getSpid();
  turn->done(spid);
  co_return spid;
}

/// What was produced so far is in the log when this is answered.
asio::awaitable<answer<frame<proto::Done>>> flush_log(exchange& x, uuid operation) {
  auto flush = make_frame<proto::FlushOperation>([&](auto root) { operation.to(root.initId()); });
  return x.write<proto::Done>(x.inside().operations, std::move(flush));
}

/// Why there is nothing to be shown of a process that the log does not know.
refusal no_process(const process_target& target) {
  const auto status = target.record.view()->getStatus();
  if (status == proto::OperationStatus::PENDING || status == proto::OperationStatus::ASSIGNED) {
    return {425, "the operation's command does not run yet; try again"};
  }
  return not_found("no such process of this operation");
}

/// What the caller may ask of the process, parsed. The body is gone by then: it may be large.
template <class Order>
asio::awaitable<answer<Order>> read_order(exchange& x, const process_target& target,
                                          answer<Order> (*parse)(const boost::json::object&)) {
  if (!may_act(x, target)) {
    co_return insufficient(may_spawn | may_spawn_disposable);
  }
  auto body = co_await x.read_json();
  if (body.has_error()) {
    co_return body.error();
  }
  co_return parse(*body);
}

reply empty_reply(unsigned status) {
  reply out;
  out.status = status;
  return out;
}

} // namespace

asio::awaitable<reply> post_subprocess(exchange& x) {
  auto target = co_await find_target(x);
  if (target.has_error()) {
    co_return reply{target.error()};
  }
  auto order = co_await read_order(x, *target, parse_exec_order);
  if (order.has_error()) {
    co_return reply{order.error()};
  }
  auto fill = [&order](proto::ProcessOrder::Builder root) {
    auto exec = root.initExec();
    fill_process(*order, exec.initProcess());
    exec.setStdin(data_of(order->stdin.bytes));
    exec.setStdinClose(order->stdin.close);
  };
  auto spid = co_await order_once(x, *target, fill);
  if (spid.has_error()) {
    co_return reply{spid.error()};
  }
  json_writer json;
  json.begin_object();
  json.member("spid", *spid);
  json.end_object();
  reply out{201, json.take()};
  out.headers.emplace_back("Location", "/v1/operations/" + target->operation.text() +
                                           "/subprocesses/" + std::to_string(*spid));
  co_return out;
}

asio::awaitable<reply> get_subprocess(exchange& x) {
  auto target = co_await find_target(x);
  if (target.has_error()) {
    co_return reply{target.error()};
  }
  if (!target->is_over()) {
    auto flushed = co_await flush_log(x, target->operation);
    if (flushed.has_error()) {
      co_return reply{flushed.error()};
    }
    // It may have ended meanwhile; then the record says more than the log.
    auto again = co_await find_operation(x, target->operation);
    if (again.has_error()) {
      co_return reply{again.error()};
    }
    target->record = std::move(*again);
  }
  json_body body;
  reply out;
  auto record = target->record.view();
  if (target->spid == main_spid && record->getHasResult()) {
    write_recorded_result(body, x, target->record, *record);
    body.finish(out);
    co_return out;
  }
  auto survey = co_await survey_process(x, target->operation, target->spid);
  if (survey.has_error()) {
    co_return reply{survey.error()};
  }
  if (!survey->has_started) {
    co_return reply{no_process(*target)};
  }
  write_surveyed_result(body, x, target->operation, target->spid, *survey);
  body.finish(out);
  co_return out;
}

asio::awaitable<reply> get_subprocesses(exchange& x) {
  auto page = parse_page(x.query());
  if (page.has_error()) {
    co_return reply{page.error()};
  }
  auto target = co_await find_target(x);
  if (target.has_error()) {
    co_return reply{target.error()};
  }
  if (!target->is_over()) {
    auto flushed = co_await flush_log(x, target->operation);
    if (flushed.has_error()) {
      co_return reply{flushed.error()};
    }
  }
  auto surveys = co_await survey_processes(x, target->operation);
  if (surveys.has_error()) {
    co_return reply{surveys.error()};
  }
  json_writer json;
  json.begin_object();
  json.key("subprocesses");
  json.begin_array();
  std::uint64_t place = 0;
  for (const auto& [spid, survey] : *surveys) {
    if (place++ < page->offset || place > page->offset + page->limit) {
      continue;
    }
    json.begin_object();
    json.member("spid", spid);
    json.member("command", survey.command);
    json.key("state");
    auto result = survey.result();
    auto so_far = result.view();
    write_state(json, *so_far);
    json.end_object();
  }
  json.end_array();
  json.end_object();
  co_return reply{200, json.take()};
}

asio::awaitable<reply> delete_subprocess(exchange& x) {
  auto target = co_await find_target(x);
  if (target.has_error()) {
    co_return reply{target.error()};
  }
  if (!x.who.may(may_cancel) && !may_act(x, *target)) {
    co_return reply{insufficient(may_cancel | may_spawn)};
  }
  auto text = x.query().find("signal").value_or("");
  auto number = parse_signal(text.empty() ? "KILL" : text);
  if (!number) {
    co_return reply{bad_request("signal must be a name like TERM or SIGTERM, or a number from 1 "
                                "to 64")};
  }
  auto fill = [number](proto::ProcessOrder::Builder root) {
    root.setSignal(*number);
  };
  auto sent = co_await order_process(x, *target, fill);
  if (sent.has_error()) {
    co_return reply{sent.error()};
  }
  co_return empty_reply(202);
}

asio::awaitable<reply> post_stdin(exchange& x) {
  auto target = co_await find_target(x);
  if (target.has_error()) {
    co_return reply{target.error()};
  }
  auto order = co_await read_order(x, *target, parse_input_order);
  if (order.has_error()) {
    co_return reply{order.error()};
  }
  auto fill = [&order](proto::ProcessOrder::Builder root) {
    auto input = root.initStdin();
    input.setData(data_of(order->bytes));
    input.setClose(order->close);
  };
  auto written = co_await order_once(x, *target, fill);
  if (written.has_error()) {
    co_return reply{written.error()};
  }
  co_return empty_reply(202);
}

} // namespace coppice::gateway
