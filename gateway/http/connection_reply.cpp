#include "gateway/http/connection.hpp"

#include "gateway/http/defect.hpp"
#include "gateway/http/file_sender.hpp"
#include "gateway/http/status.hpp"

#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <memory>
#include <utility>

// Writing replies; connection.cpp reads what they answer.

namespace coppice::gateway {
namespace {

using clock = transport::clock;

/// Bodies up to this size carry their length: a client that refuses larger announced JSON exists.
constexpr std::size_t announced_bytes_max = 64u << 10;

/// Smaller ones hardly become smaller.
constexpr std::size_t compressed_bytes_min = 1u << 10;

/// Of the response's time stamp, made once a second.
std::string_view date_text() {
  static thread_local std::time_t made_at = 0;
  static thread_local std::array<char, 64> text{};
  static thread_local std::size_t size = 0;
  auto now = std::time(nullptr);
  if (now != made_at) {
    std::tm parts{};
    gmtime_r(&now, &parts);
    size = std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
    made_at = now;
  }
  return {text.data(), size};
}

void append_header(std::string& head, std::string_view name, std::string_view value) {
  head += name;
  head += ": ";
  head += value;
  head += "\r\n";
}

/// Drops what was sent from the front.
void consume(transport::pieces& pieces, std::size_t bytes) {
  for (auto& piece : pieces) {
    auto part = std::min(bytes, piece.size());
    piece += part;
    bytes -= part;
  }
}

} // namespace

/// How the body of one reply travels.
struct connection::body_plan {
  enum class form {
    none,    ///< HEAD, 204: not at all
    sized,   ///< its length is announced
    chunked, ///< in chunks
    to_end   ///< until the connection closes: the client is too old for chunks
  };
  std::string_view request_id; ///< of what it answers
  form how = form::sized;
  std::optional<std::uint64_t> length; ///< to announce
  body_piece first;                    ///< of a stream, taken before the status was sent
  bool takes_parts = false;            ///< of a stream: files of the store go out by themselves
  bool is_ended = true;                ///< the stream has no more than `first`
  bool may_compress = false;           ///< another client might get it compressed
  bool is_compressed = false;
  std::unique_ptr<gzip_encoder> encoder; ///< of what is compressed piece by piece
  memory_budget::lease encoder_memory;
};

/// While a live reply is written: who makes it is told when the client has gone.
class connection::live_reply {
public:
  live_reply(connection& owner, const reply& out) : owner_{owner} {
    if (!out.is_live || !out.stream) {
      return;
    }
    owner_.live_ = out.stream.get();
    owner_.transport_.watch(
        [&owner] { owner.live_->cancel(body_source::cancel_reason::client_gone); });
    if (owner_.server_.stopping) {
      owner_.live_->cancel(body_source::cancel_reason::stopping);
    }
  }
  ~live_reply() {
    if (owner_.live_) {
      owner_.transport_.unwatch();
      owner_.live_ = nullptr;
    }
  }
  live_reply(const live_reply&) = delete;
  live_reply& operator=(const live_reply&) = delete;

private:
  connection& owner_;
};

asio::awaitable<bool> connection::send(std::string_view first, std::string_view second,
                                       std::string_view third) {
  transport::pieces left{asio::buffer(first.data(), first.size()),
                         asio::buffer(second.data(), second.size()),
                         asio::buffer(third.data(), third.size())};
  while (asio::buffer_size(left) > 0) {
    auto moved = co_await transport_.send(left, send_pace_->deadline(clock::now()));
    if (moved.error) {
      co_return false;
    }
    send_pace_->moved(clock::now(), moved.bytes);
    consume(left, moved.bytes);
  }
  co_return true;
}

/// A stream whose length is known is the content of a file: it goes out as it lies on the disk, so
/// that it need not pass through us, clients see how far they are, and ranges mean its own bytes.
void connection::plan_compression(const reply& out, body_plan& plan) {
  bool is_text = !out.length && out.content_type != "application/octet-stream";
  bool is_unknown_stream = out.stream && !out.length && !plan.is_ended;
  plan.may_compress =
      is_unknown_stream || (is_text && plan.first.bytes.size() > compressed_bytes_min);
  if (!plan.may_compress || plan.takes_parts || !has_request() ||
      !accepts_gzip(header("Accept-Encoding"))) {
    return;
  }
  plan.encoder_memory = memory_budget::lease{server_.gzip_memory};
  if (!plan.encoder_memory.extend(gzip_encoder::memory_bytes)) {
    return; // so many are compressed already that this one goes as it is
  }
  plan.is_compressed = true;
  plan.encoder = std::make_unique<gzip_encoder>();
  if (plan.is_ended && plan.length) {
    auto packed = plan.encoder->add(plan.first.bytes);
    plan.first.bytes = packed + plan.encoder->finish();
    plan.length = plan.first.bytes.size();
    plan.encoder.reset();
  }
}

/// Whether nothing has to be done to the bytes of a stream on their way.
bool connection::takes_parts(const reply& out) const {
  const bool may_compress = !out.length && has_request() && accepts_gzip(header("Accept-Encoding"));
  return !out.is_live && !transport_.is_encrypted() && !may_compress;
}

/// An exception is our defect, as in a route.
asio::awaitable<answer<body_piece>> connection::next_of(reply& out, const body_plan& plan) {
  try {
    if (plan.takes_parts) {
      co_return co_await out.stream->next_piece();
    }
    auto bytes = co_await out.stream->next();
    if (bytes.has_error()) {
      co_return bytes.error();
    }
    co_return body_piece{std::move(*bytes), {}, nullptr};
  } catch (...) {
    co_return tell_defect(plan.request_id);
  }
}

/// Decides how the body travels, and takes the beginning of a stream: while no status was sent, a
/// failure can still be told. Gives the failure.
asio::awaitable<std::optional<refusal>> connection::gather(reply& out, body_plan& plan) {
  bool is_old = has_request() && head_.version() < 11;
  auto unsized = is_old ? body_plan::form::to_end : body_plan::form::chunked;
  if (out.status == 204 || out.status == 304) {
    plan.how = body_plan::form::none;
    co_return std::nullopt;
  }
  if (!out.stream) {
    plan.length = out.length; // where HEAD leaves the body out
    if (!plan.length && out.body.size() <= announced_bytes_max) {
      plan.length = out.body.size();
    }
    plan.first.bytes = std::move(out.body);
  } else {
    plan.is_ended = false;
    plan.length = out.length;
    plan.takes_parts = takes_parts(out);
    auto gathered_max = out.length ? 0 : announced_bytes_max;
    // Parts of files are not gathered: they may be large, and go out as they are.
    while (!out.is_live && !plan.is_ended && plan.first.parts.empty() &&
           plan.first.bytes.size() <= gathered_max) {
      auto piece = co_await next_of(out, plan);
      if (piece.has_error()) {
        co_return piece.error();
      }
      plan.is_ended = piece->empty();
      plan.first.bytes += piece->bytes;
      plan.first.parts = std::move(piece->parts);
      plan.first.sender = piece->sender;
    }
    if (plan.is_ended && !plan.length) {
      plan.length = plan.first.size();
    }
  }
  plan_compression(out, plan);
  plan.how = plan.length ? body_plan::form::sized : unsized;
  if (has_request() && head_.method() == http::verb::head) {
    plan.how = body_plan::form::none; // all else is as for GET
  }
  co_return std::nullopt;
}

std::string connection::head_text(const reply& out, reply_terms terms, const body_plan& plan,
                                  bool keep_alive) const {
  std::string head;
  head.reserve(512);
  head += "HTTP/1.1 ";
  head += std::to_string(out.status);
  head += ' ';
  head += reason_phrase(out.status);
  head += "\r\n";
  append_header(head, "Server", "coppice");
  append_header(head, "Date", date_text());
  append_header(head, "X-Request-Id", terms.request_id);
  append_header(head, "X-Content-Type-Options", "nosniff");
  head += terms.header_lines;
  for (const auto& [name, value] : out.headers) {
    append_header(head, name, value);
  }
  bool has_content = out.status != 204 && out.status != 304; // HEAD says what GET would bring
  if (has_content && plan.length.value_or(1) > 0) {
    append_header(head, "Content-Type", out.content_type);
  }
  if (plan.may_compress) {
    append_header(head, "Vary", "Accept-Encoding");
  }
  if (plan.is_compressed) {
    append_header(head, "Content-Encoding", "gzip");
  }
  if (plan.length) {
    append_header(head, "Content-Length", std::to_string(*plan.length));
  } else if (plan.how == body_plan::form::chunked) {
    append_header(head, "Transfer-Encoding", "chunked");
  }
  append_header(head, "Connection", keep_alive ? "keep-alive" : "close");
  head += "\r\n";
  return head;
}

/// Sends `head`, which is then empty, and bytes of the body as the plan has them.
asio::awaitable<bool> connection::write_piece(std::string& head, std::string_view piece,
                                              body_plan& plan, written& result) {
  if (plan.how == body_plan::form::sized && result.bytes + piece.size() > *plan.length) {
    co_return false; // more than was announced would be taken for the next reply
  }
  std::string_view end;
  if (plan.how == body_plan::form::chunked && !piece.empty()) {
    std::array<char, 24> size{};
    std::snprintf(size.data(), size.size(), "%zx\r\n", piece.size());
    head += size.data();
    end = "\r\n";
  }
  bool is_sent = co_await send(head, piece, end);
  head.clear();
  result.bytes += is_sent ? piece.size() : 0;
  co_return is_sent;
}

/// The same for parts of files, past our buffers.
asio::awaitable<bool> connection::write_parts(std::string& head, body_piece& piece,
                                              const body_plan& plan, written& result) {
  const auto bytes = piece.size();
  if (plan.how == body_plan::form::sized && result.bytes + bytes > *plan.length) {
    co_return false;
  }
  std::string end;
  if (plan.how == body_plan::form::chunked) {
    std::array<char, 24> size{};
    std::snprintf(size.data(), size.size(), "%llx\r\n", static_cast<unsigned long long>(bytes));
    head += size.data();
    end = "\r\n";
  }
  // All in one go: the header of a small file and the file are one packet.
  head += piece.bytes;
  piece.parts.insert(piece.parts.begin(), body_part{std::exchange(head, {}), {}});
  piece.parts.push_back(body_part{std::move(end), {}});
  bool is_sent = co_await piece.sender->send(transport_.socket(), piece.parts, *send_pace_);
  result.bytes += is_sent ? bytes : 0;
  co_return is_sent;
}

/// The same for a piece before it is compressed; an empty one ends the stream.
asio::awaitable<bool> connection::write_compressed(std::string& head, std::string_view piece,
                                                   body_plan& plan, written& result) {
  if (piece.empty()) {
    auto last = plan.encoder->finish();
    co_return co_await write_piece(head, last, plan, result);
  }
  for (;;) {
    auto slice = piece.substr(0, gzip_encoder::slice_bytes);
    piece.remove_prefix(slice.size());
    auto packed = plan.encoder->add(slice);
    if (piece.empty()) {
      packed += plan.encoder->flush(); // what was made must be readable when it arrives
    }
    if (!packed.empty()) {
      bool is_sent = co_await write_piece(head, packed, plan, result);
      if (!is_sent) {
        co_return false;
      }
    }
    if (piece.empty()) {
      co_return true;
    }
    co_await asio::post(transport_.socket().get_executor(), asio::use_awaitable);
  }
}

asio::awaitable<void> connection::write_body(reply& out, std::string head, body_plan& plan,
                                             written& result) {
  live_reply live{*this, out};
  auto piece = std::move(plan.first);
  if (out.is_live && !plan.is_ended) {
    // The client learns at once that it is heard; the first piece may be long in coming.
    bool is_sent = co_await send(head, {}, {});
    head.clear();
    if (!is_sent) {
      co_return;
    }
  }
  for (;;) {
    if (!piece.empty() || (!head.empty() && !plan.encoder)) {
      bool is_sent = false;
      if (plan.encoder) {
        is_sent = co_await write_compressed(head, piece.bytes, plan, result);
      } else if (!piece.parts.empty()) {
        is_sent = co_await write_parts(head, piece, plan, result);
      } else {
        is_sent = co_await write_piece(head, piece.bytes, plan, result);
      }
      if (!is_sent) {
        co_return;
      }
    }
    if (plan.is_ended) {
      break;
    }
    auto more = co_await next_of(out, plan);
    if (more.has_error()) {
      co_return; // the client sees that the body has no end
    }
    piece = std::move(*more);
    plan.is_ended = piece.empty();
    if (plan.is_ended) {
      break;
    }
  }
  if (plan.encoder) {
    bool is_sent = co_await write_compressed(head, {}, plan, result);
    if (!is_sent) {
      co_return;
    }
  }
  if (plan.how == body_plan::form::chunked) {
    bool is_sent = co_await send("0\r\n\r\n", {}, {});
    if (!is_sent) {
      co_return;
    }
  }
  result.is_complete = plan.how != body_plan::form::sized || result.bytes == *plan.length;
}

asio::awaitable<connection::written> connection::write_reply(reply& out, reply_terms terms) {
  const auto& config = server_.inside.config;
  body_plan plan;
  plan.request_id = terms.request_id;
  auto failed = co_await gather(out, plan);
  if (failed) {
    out = reply{*failed};
    plan = body_plan{};
    co_await gather(out, plan);
  }
  written result;
  result.status = out.status;
  bool is_readable = has_request() && !is_broken_;
  auto left = is_readable ? parser_->content_length_remaining() : boost::none;
  bool is_body_left = is_readable && !parser_->is_done();
  bool is_too_much = is_body_left && (must_continue_ || (left && *left > discard_bytes_max));
  result.keep_alive = is_readable && parser_->keep_alive() && !terms.is_last && !is_too_much &&
                      plan.how != body_plan::form::to_end;
  send_pace_.emplace(config.http.stall_timeout, config.http.rate_bytes_min);
  auto head = head_text(out, terms, plan, result.keep_alive);
  if (plan.how == body_plan::form::none) {
    result.is_complete = co_await send(head, {}, {});
  } else {
    co_await write_body(out, std::move(head), plan, result);
  }
  out.stream.reset();
  if (!result.is_complete && plan.how == body_plan::form::to_end) {
    transport_.break_on_close();
  }
  result.keep_alive = result.keep_alive && result.is_complete && co_await discard_body();
  co_return result;
}

} // namespace coppice::gateway
