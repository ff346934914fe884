#pragma once

#include "gateway/http/exchange.hpp"
#include "gateway/http/message.hpp"
#include "protocol/uuid.hpp"

#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace coppice::gateway {

/// Which events of an operation a client wants.
struct event_query {
  uuid operation;
  std::uint64_t first_id = 0;
  std::optional<std::uint32_t> spid; ///< completion comes in any case
  bool is_follow = false;
  bool is_over = false; ///< the operation has ended: its log is whole
};

/// The query of a request: `follow`, `spid`, `since`, and the header Last-Event-Id, which wins over
/// `since`. 400, naming what is wrong.
answer<event_query> parse_event_query(const exchange& x, const uuid& operation);

/// An operation's event log as server-sent events, the past and, for a follower, what is to come.
///
/// Problem: a thousand clients may follow, some slowly or not at all, and each must see every event
/// once and in order. Guarantee: it pulls. It holds one page of events at most, taken when the
/// client has taken the one before, and asks the operation to be woken only when it has read all
/// that is durable; so nothing is queued for a client, and one that stands still costs others
/// nothing. The stream ends with completion; when it cannot go on it says so in an `sse_error`.
/// Owner: the connection that it is sent on, on whose thread it lives.
class event_source : public body_source {
public:
  /// A sign of life after so much silence: proxies and clients give up after a minute or less.
  static constexpr std::chrono::seconds keep_alive{15};
  /// An operation that does not answer for so long is asked again; a live one answers within twice
  /// event_watchers::wait_max.
  static constexpr std::chrono::seconds patience{60};
  /// Between questions that were answered without news: more wait than an operation can wake.
  static constexpr std::chrono::milliseconds pause{500};
  /// So many looks, a pause apart, at an operation that is not live and has no end.
  static constexpr int looks_max = 5;

  event_source(exchange& x, const event_query& query) : exchange_{x}, query_{query} {}

  asio::awaitable<answer<std::string>> next() override;
  void cancel(cancel_reason reason) override;

private:
  using clock = std::chrono::steady_clock;
  using progress = answer<frame<proto::OperationProgress>>;

  /// A question to the operation and its answer.
  struct watch {
    clock::time_point asked_at;
    std::optional<progress> answered;
  };

  void append_page(std::string& out, proto::EventPage::Reader page);
  asio::awaitable<void> wait_for_more(std::string& out);
  void ask();
  /// Takes the answer; how long to wait before the next step.
  asio::awaitable<clock::duration> take_answer(std::string& out);
  asio::awaitable<clock::duration> look_at_record(std::string& out);
  /// Until then, or until `alarm_` is cancelled.
  asio::awaitable<void> sleep_until(clock::time_point when);
  void break_off(std::string& out, const std::string& reason);

  exchange& exchange_;
  event_query query_;
  bool has_ended_ = false;
  std::uint64_t durable_count_ = UINT64_MAX; ///< events in the catalog, as far as is known
  int looks_ = 0;
  clock::time_point sent_at_;
  std::optional<cancel_reason> cancelled_;
  std::shared_ptr<watch> watch_; ///< an answer that comes too late finds it gone
  /// What a waiting `next` waits on; cancelled to wake it.
  std::shared_ptr<asio::steady_timer> alarm_;
};

} // namespace coppice::gateway
