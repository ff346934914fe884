#include "gateway/http/body_sources.hpp"

#include "gateway/http/json_records.hpp"
#include "gateway/http/look_up.hpp"

#include <algorithm>

namespace coppice::gateway {
namespace {

/// Of raw bytes in a piece; encoded they are at most twice as many.
constexpr std::size_t piece_bytes = 192u << 10;

/// Small parts go on together: each piece costs some steps on its way.
constexpr std::size_t joined_bytes_min = 16u << 10;

/// Most runs print less than this; clients poll for their end.
constexpr std::uint32_t first_page_bytes = 16u << 10;
constexpr std::uint32_t later_page_bytes = 128u << 10;

/// Pages up to this size are read here. Larger ones would keep other connections waiting.
constexpr std::uint32_t near_page_bytes_max = first_page_bytes;

} // namespace

asio::awaitable<answer<std::string>> text_source::next() {
  co_return std::exchange(text_, {});
}

asio::awaitable<answer<std::string>> constant_source::next() {
  std::string piece{bytes_.substr(0, piece_bytes)};
  bytes_.remove_prefix(piece.size());
  co_return piece;
}

asio::awaitable<answer<std::string>> sequence_source::next() {
  std::string out;
  while (!parts_.empty() && out.size() < joined_bytes_min) {
    auto piece = co_await parts_.front()->next();
    if (piece.has_error()) {
      co_return piece;
    }
    if (piece->empty()) {
      parts_.pop_front();
    }
    out.empty() ? out.swap(*piece) : void(out += *piece);
  }
  co_return out;
}

asio::awaitable<answer<std::string>> bytes_source::next() {
  std::string out;
  if (has_ended_) {
    co_return out;
  }
  if (!std::exchange(has_begun_, true)) {
    out += '"';
  }
  auto piece = bytes_.substr(0, piece_bytes);
  bytes_.remove_prefix(piece.size());
  is_plain_ ? append_json_escaped(out, piece) : encoder_.append(out, piece);
  if (bytes_.empty()) {
    encoder_.finish(out);
    out += '"';
    has_ended_ = true;
    keep_ = {};
  }
  co_return out;
}

asio::awaitable<answer<frame<proto::OperationRecord>>> find_operation(exchange& x, uuid id) {
  auto request = make_frame<proto::GetOperation>([&](auto root) {
    root.setProject(x.who.project);
    id.to(root.initId());
  });
  return look_up<proto::OperationRecord>(x.server, std::move(request),
                                         &storage::catalog::get_operation);
}

asio::awaitable<answer<frame<proto::EventPage>>>
read_events(exchange& x, uuid operation, std::uint64_t first_id, std::uint32_t bytes_max) {
  auto request = make_frame<proto::ListEvents>([&](auto root) {
    operation.to(root.initOperation());
    root.setFirstId(first_id);
    root.setMaxBytes(bytes_max);
  });
  if (bytes_max <= near_page_bytes_max) {
    return look_up<proto::EventPage>(x.server, std::move(request), &storage::catalog::list_events);
  }
  return x.read<proto::EventPage>(x.inside().catalog, std::move(request));
}

output_source::output_source(exchange& x, output_range range)
    : exchange_{x}, range_{range}, next_id_{range.first_id}, page_bytes_{first_page_bytes} {
  // nop
}

void output_source::append(std::string& out, proto::EventPage::Reader page) {
  for (auto event : page.getEvents()) {
    if (event.getId() >= range_.end_id) {
      has_ended_ = true;
      break;
    }
    next_id_ = event.getId() + 1;
    bool is_wanted = range_.is_stderr ? event.isStderr() : event.isStdout();
    if (event.getSpid() == range_.spid && is_wanted) {
      auto data = view(range_.is_stderr ? event.getStderr() : event.getStdout());
      range_.is_plain ? append_json_escaped(out, data) : encoder_.append(out, data);
    }
  }
  has_ended_ = has_ended_ || page.getEvents().size() == 0 || next_id_ >= range_.end_id;
}

asio::awaitable<answer<std::string>> output_source::next() {
  std::string out;
  if (!has_ended_ && !std::exchange(has_begun_, true)) {
    out += '"';
  }
  // A page may hold nothing of this stream: an empty piece would mean the end.
  while (!has_ended_ && (out.empty() || out == "\"")) {
    auto page = co_await read_events(exchange_, range_.operation, next_id_, page_bytes_);
    if (page.has_error()) {
      co_return page.error();
    }
    auto events = page->view();
    append(out, *events);
    page_bytes_ = later_page_bytes;
    if (has_ended_) {
      encoder_.finish(out);
      out += '"';
    }
  }
  co_return out;
}

void json_body::add_value(std::unique_ptr<body_source> value) {
  if (!parts_) {
    parts_ = std::make_unique<sequence_source>();
  }
  parts_->add(std::make_unique<text_source>(json.take()));
  parts_->add(std::move(value));
  json.skip_value();
}

void json_body::finish(reply& out) {
  if (!parts_) {
    out.body = json.take();
    return;
  }
  parts_->add(std::make_unique<text_source>(json.take()));
  out.stream = std::move(parts_);
}

} // namespace coppice::gateway
