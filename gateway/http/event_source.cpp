#include "gateway/http/event_source.hpp"

#include "gateway/http/body_sources.hpp"
#include "gateway/http/json_events.hpp"
#include "protocol/operation_status.hpp"

#include <boost/asio/redirect_error.hpp>

#include <algorithm>
#include <charconv>
#include <utility>

namespace coppice::gateway {
namespace {

/// What one that does not read keeps of the log: a little more than this, encoded.
constexpr std::uint32_t page_bytes = 32u << 10;

/// A whole number, also a negative one. Nothing when the text is none.
std::optional<std::int64_t> parse_number(std::string_view text) {
  std::int64_t value = 0;
  auto end = text.data() + text.size();
  auto [stopped, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stopped != end) {
    return std::nullopt;
  }
  return value;
}

} // namespace

answer<event_query> parse_event_query(const exchange& x, const uuid& operation) {
  event_query out;
  out.operation = operation;
  auto follow = x.query().flag("follow");
  if (follow.has_error()) {
    return follow.error();
  }
  out.is_follow = *follow;
  if (auto text = x.query().find("spid").value_or(""); !text.empty()) {
    auto spid = parse_number(text);
    if (!spid || *spid < 0 || *spid > UINT32_MAX) {
      return bad_request("spid must be the number of a process, 0 for the sandbox itself");
    }
    out.spid = static_cast<std::uint32_t>(*spid);
  }
  const auto resumed = x.fields.header("Last-Event-Id");
  const auto last = resumed.empty() ? x.query().find("since").value_or("") : resumed;
  if (!last.empty()) {
    auto id = parse_number(last);
    if (!id) {
      return bad_request(std::string{resumed.empty() ? "since" : "Last-Event-Id"} +
                         " must be the id of an event, a whole number");
    }
    out.first_id = *id < 0 ? 0 : static_cast<std::uint64_t>(*id) + 1;
  }
  return out;
}

asio::awaitable<answer<std::string>> event_source::next() {
  std::string out;
  if (!alarm_) {
    auto executor = co_await asio::this_coro::executor;
    alarm_ = std::make_shared<asio::steady_timer>(executor);
    sent_at_ = clock::now();
  }
  while (out.empty() && !has_ended_) {
    if (cancelled_ == cancel_reason::stopping) {
      break_off(out, "the server is stopping; resume when it is back");
    } else if (clock::now() - sent_at_ >= keep_alive) {
      append_comment(out, "keepalive");
    } else if (query_.first_id >= durable_count_ && cancelled_) {
      // One that only sends no more has all that there was, and sees that it was not the end.
      co_return refusal{500, "the client has gone"};
    } else if (query_.first_id >= durable_count_) {
      co_await wait_for_more(out);
    } else {
      auto page = co_await read_events(exchange_, query_.operation, query_.first_id, page_bytes);
      if (page.has_error()) {
        break_off(out, page.error().text);
      } else {
        auto events = page->view();
        append_page(out, *events);
      }
      if (out.empty()) { // nothing that was asked for: nothing will be sent, and nobody waits
        co_await asio::post(alarm_->get_executor(), asio::use_awaitable);
      }
    }
  }
  sent_at_ = clock::now();
  co_return out;
}

void event_source::append_page(std::string& out, proto::EventPage::Reader page) {
  if (page.getEvents().size() == 0) {
    if (!query_.is_follow || query_.is_over) {
      has_ended_ = true;
    } else if (durable_count_ != UINT64_MAX) {
      break_off(out, "the event log has a gap");
    }
    durable_count_ = query_.first_id;
    return;
  }
  for (auto event : page.getEvents()) {
    query_.first_id = event.getId() + 1;
    has_ended_ = event.isCompletion();
    if (has_ended_ || !query_.spid || *query_.spid == event.getSpid()) {
      append_event_frame(out, event);
    }
    if (has_ended_) {
      return;
    }
  }
}

/// One step: asks, or waits, or looks at what was answered.
asio::awaitable<void> event_source::wait_for_more(std::string& out) {
  if (!watch_) {
    ask();
  }
  if (!watch_->answered) {
    co_await sleep_until(std::min(sent_at_ + keep_alive, watch_->asked_at + patience));
  }
  if (cancelled_) {
    co_return;
  }
  if (watch_->answered) {
    auto delay = co_await take_answer(out);
    if (delay > clock::duration::zero()) {
      co_await sleep_until(clock::now() + delay);
    }
  } else if (clock::now() - watch_->asked_at >= patience) {
    watch_.reset();
  }
}

void event_source::ask() {
  watch_ = std::make_shared<watch>();
  watch_->asked_at = clock::now();
  auto request = make_frame<proto::WatchOperation>([&](auto root) {
    query_.operation.to(root.initId());
    root.setHaveEvents(query_.first_id);
  });
  exchange_.server.actors.ask<proto::OperationProgress>(
      exchange_.inside().operations, std::move(request), std::nullopt,
      [executor = alarm_->get_executor(), asked = std::weak_ptr{watch_},
       alarm = std::weak_ptr{alarm_}](caf::expected<frame<proto::OperationProgress>> result) {
        // Looked at on the connection's thread only: there it may have gone meanwhile.
        asio::post(executor, [asked, alarm, result = std::move(result)]() mutable {
          auto waiting = asked.lock();
          auto timer = alarm.lock();
          if (!waiting || !timer) {
            return;
          }
          if (result) {
            waiting->answered = std::move(*result);
          } else {
            waiting->answered = refuse(result.error());
          }
          timer->cancel();
        });
      });
}

asio::awaitable<event_source::clock::duration> event_source::take_answer(std::string& out) {
  auto taken = std::exchange(watch_, nullptr);
  const auto& told = *taken->answered;
  if (told.has_error() || !told->view()->getLive()) {
    co_return co_await look_at_record(out);
  }
  looks_ = 0;
  durable_count_ = std::max(told->view()->getEventCount(), query_.first_id);
  const bool has_news = durable_count_ > query_.first_id;
  const bool was_early = clock::now() - taken->asked_at < pause;
  co_return has_news || !was_early ? clock::duration::zero() : clock::duration{pause};
}

/// The operation does not live, or cannot be asked: its record says whether it has ended.
asio::awaitable<event_source::clock::duration> event_source::look_at_record(std::string& out) {
  auto found = co_await find_operation(exchange_, query_.operation);
  if (found.has_error()) {
    break_off(out, found.error().text);
  } else if (is_terminal(found->view()->getStatus())) {
    query_.is_over = true;
    durable_count_ = UINT64_MAX;
  } else if (++looks_ >= looks_max) {
    break_off(out, "the operation does not go on and its end is not recorded yet; resume later");
  } else {
    co_return pause;
  }
  co_return clock::duration::zero();
}

asio::awaitable<void> event_source::sleep_until(clock::time_point when) {
  boost::system::error_code ignored;
  alarm_->expires_at(when);
  co_await alarm_->async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

void event_source::break_off(std::string& out, const std::string& reason) {
  append_break(out, reason);
  has_ended_ = true;
}

void event_source::cancel(cancel_reason reason) {
  if (!cancelled_ || reason == cancel_reason::client_gone) {
    cancelled_ = reason;
  }
  if (alarm_) {
    alarm_->cancel();
  }
}

} // namespace coppice::gateway
