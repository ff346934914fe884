#pragma once

#include "protocol/events.capnp.h"
#include "protocol/frame.hpp"
#include "protocol/messages.capnp.h"
#include "protocol/uuid.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace coppice {

/// The part of an operation's event log that is not durable yet.
///
/// Problem: events get consecutive ids and must reach the catalog in order without gaps or
/// repeats, also when a write fails; a guest may print a byte at a time, or gigabytes. So output
/// of one stream that comes in a row is one event, at most one batch is on its way, a failed batch
/// goes back to the front, and the whole log has a size after which output is refused.
/// Owner: one operation actor.
class event_log {
public:
  explicit event_log(std::uint64_t first_id = 0) : next_id_{first_id}, durable_count_{first_id} {}

  /// Appends an event; `fill` gets its builder, where id, time and spid are set already.
  template <class Fill>
  void add(std::uint32_t spid, std::int64_t at_unix_ns, Fill&& fill) {
    close_output();
    push(make_frame<proto::Event>([&](proto::Event::Builder e) {
      stamp(e, spid, at_unix_ns);
      fill(e);
    }));
  }

  /// Appends an event that carries so many bytes of a client or a guest. False: the log is full and
  /// nothing was kept, nor will be.
  template <class Fill>
  bool add_sized(std::uint32_t spid, std::int64_t at_unix_ns, std::size_t bytes, Fill&& fill) {
    is_full_ = is_full_ || logged_bytes_ + bytes + event_cost_bytes > log_bytes_max;
    if (is_full_) {
      return false;
    }
    logged_bytes_ += bytes + event_cost_bytes;
    add(spid, at_unix_ns, std::forward<Fill>(fill));
    return true;
  }

  /// Appends output. False: the log is full and nothing was kept, nor will be: what there is of a
  /// stream is its beginning.
  bool add_output(std::uint32_t spid, bool is_stderr, std::span<const unsigned char> data,
                  std::int64_t at_unix_ns);

  /// Bytes that wait to be written, about.
  std::size_t waiting_bytes() const {
    return waiting_bytes_ + (output_ ? output_->data.size() : 0);
  }

  bool has_waiting() const {
    return !waiting_.empty() || output_.has_value();
  }

  /// Moves everything that waits into the batch on its way (there must be none) and gives it.
  const std::vector<frame<proto::Event>>& take();
  /// The batch is durable.
  void taken_is_durable();
  /// The batch was not written: it waits again, in front.
  void taken_failed();

  bool is_full() const {
    return is_full_;
  }

  std::uint64_t logged_bytes() const {
    return logged_bytes_;
  }

  /// How many events are durable.
  std::uint64_t durable_count() const {
    return durable_count_;
  }

  /// The id that the next event will get: the number of events so far.
  std::uint64_t next_id() const {
    return next_id_ + (output_ ? 1 : 0);
  }

  /// Output in one event at most.
  static constexpr std::size_t output_event_bytes_max = 64u << 10;
  /// The whole log: room for two streams at their largest, and for the cost of many small events.
  static constexpr std::size_t log_bytes_max = 32u << 20;
  /// What an event costs beside its data.
  static constexpr std::size_t event_cost_bytes = 128;

private:
  struct open_output {
    std::uint32_t spid;
    bool is_stderr;
    std::int64_t at_unix_ns;
    std::string data;
  };

  void stamp(proto::Event::Builder e, std::uint32_t spid, std::int64_t at_unix_ns);
  void push(frame<proto::Event> e);
  void close_output();

  std::uint64_t next_id_;
  std::uint64_t durable_count_;
  bool is_full_ = false;
  std::size_t logged_bytes_ = 0;
  std::size_t waiting_bytes_ = 0;
  std::optional<open_output> output_;
  std::vector<frame<proto::Event>> waiting_;
  std::vector<frame<proto::Event>> on_its_way_;
};

} // namespace coppice
