#include "gateway/http/body_sources.hpp"
#include "gateway/http/event_source.hpp"
#include "gateway/http/routes.hpp"
#include "protocol/operation_status.hpp"

#include <memory>

namespace coppice::gateway {

asio::awaitable<reply> get_operation_events(exchange& x) {
  auto id = parse_id(x.params[0], "operation");
  if (id.has_error()) {
    co_return reply{id.error()};
  }
  auto query = parse_event_query(x, *id);
  if (query.has_error()) {
    co_return reply{query.error()};
  }
  auto found = co_await find_operation(x, *id);
  if (found.has_error()) {
    co_return reply{found.error()};
  }
  auto record = found->view();
  if (record->getEventsTrimmed()) {
    co_return reply{refusal{410, "the event log of operation " + id->text() +
                                     " is not kept any longer (events.keep, "
                                     "events.keep_operations); its result still is"}};
  }
  // Its end was written together with its last events: they are all there.
  query->is_over = is_terminal(record->getStatus());
  reply out;
  out.content_type = "text/event-stream";
  out.headers.emplace_back("Cache-Control", "no-cache");
  out.headers.emplace_back("X-Accel-Buffering", "no"); // nginx would hold frames back
  out.stream = std::make_unique<event_source>(x, *query);
  out.is_live = true;
  co_return out;
}

} // namespace coppice::gateway
