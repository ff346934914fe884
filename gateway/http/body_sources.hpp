#pragma once

#include "gateway/http/exchange.hpp"
#include "gateway/http/json_text.hpp"
#include "gateway/http/message.hpp"
#include "protocol/frame.hpp"
#include "protocol/uuid.hpp"

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>

/// Bodies that are made piece by piece.
namespace coppice::gateway {

/// Bytes that are already there.
class text_source : public body_source {
public:
  explicit text_source(std::string text) : text_{std::move(text)} {}
  asio::awaitable<answer<std::string>> next() override;

private:
  std::string text_;
};

/// Bytes that are part of the program.
class constant_source : public body_source {
public:
  explicit constant_source(std::string_view bytes) : bytes_{bytes} {}
  asio::awaitable<answer<std::string>> next() override;

private:
  std::string_view bytes_;
};

/// One source after the other, as bytes.
class sequence_source : public body_source {
public:
  void add(std::unique_ptr<body_source> part) {
    parts_.push_back(std::move(part));
  }
  asio::awaitable<answer<std::string>> next() override;

private:
  std::deque<std::unique_ptr<body_source>> parts_;
};

/// A JSON string with the bytes of a message: as text when `is_plain`, else as base64. Encoded
/// piece by piece; the message is kept alive.
class bytes_source : public body_source {
public:
  bytes_source(frame_base keep, std::string_view bytes, bool is_plain)
      : keep_{std::move(keep)}, bytes_{bytes}, is_plain_{is_plain} {}
  asio::awaitable<answer<std::string>> next() override;

private:
  frame_base keep_;
  std::string_view bytes_;
  bool is_plain_;
  bool has_begun_ = false;
  bool has_ended_ = false;
  base64_encoder encoder_;
};

/// The spid of a run's command; the processes beside it have larger ones.
inline constexpr std::uint32_t main_spid = 1;

/// Which of an operation's recorded output to read.
struct output_range {
  uuid operation;
  std::uint32_t spid = main_spid;
  bool is_stderr = false;
  bool is_plain = true;
  std::uint64_t first_id = 0;        ///< events before this one are not looked at
  std::uint64_t end_id = UINT64_MAX; ///< events from this id on are left out
};

/// A JSON string with what a process wrote to one stream, from the event log, a page of
/// events at a time.
class output_source : public body_source {
public:
  output_source(exchange& x, output_range range);
  asio::awaitable<answer<std::string>> next() override;

private:
  void append(std::string& out, proto::EventPage::Reader page);

  exchange& exchange_;
  output_range range_;
  std::uint64_t next_id_;
  std::uint32_t page_bytes_;
  bool has_begun_ = false;
  bool has_ended_ = false;
  base64_encoder encoder_;
};

/// A JSON body some of whose values are too large to be held.
class json_body {
public:
  json_writer json;

  /// The value of the key that was just written.
  void add_value(std::unique_ptr<body_source> value);

  /// Fills the reply; small bodies are plain text.
  void finish(reply& out);

private:
  std::unique_ptr<sequence_source> parts_;
};

/// The whole record of an operation of the caller's project. 404.
asio::awaitable<answer<frame<proto::OperationRecord>>> find_operation(exchange& x, uuid id);

/// A page of an operation's event log: it ends with the event that reaches `bytes_max`. A small one
/// is read without asking an actor.
asio::awaitable<answer<frame<proto::EventPage>>> read_events(exchange& x, uuid operation,
                                                             std::uint64_t first_id,
                                                             std::uint32_t bytes_max = 128u << 10);

} // namespace coppice::gateway
