#include "gateway/http/body_sources.hpp"
#include "gateway/http/byte_range.hpp"
#include "gateway/http/file_sender.hpp"
#include "gateway/http/inspect_query.hpp"
#include "gateway/http/inspect_session.hpp"
#include "gateway/http/json_records.hpp"
#include "gateway/http/routes.hpp"

#include <algorithm>

// Bodies made of an image's files: a file, or an archive of many.

namespace coppice::gateway {
namespace {

/// What a session tells of where its content lies.
class content_source : public parts_source {
public:
  content_source(exchange& x, std::unique_ptr<inspect_session> session)
      : parts_source{x.server.files}, session_{std::move(session)} {}

protected:
  asio::awaitable<answer<std::vector<body_part>>> next_parts() override {
    std::vector<body_part> out;
    while (out.empty() && !session_->has_ended()) {
      auto chunk = co_await session_->next();
      if (chunk.has_error()) {
        co_return chunk.error();
      }
      auto view = chunk->view();
      if (view->isParts()) {
        for (auto told : view->getParts()) {
          add(out, told);
        }
      }
    }
    co_return out;
  }

private:
  static void add(std::vector<body_part>& out, proto::FilePart::Reader told) {
    body_part part;
    part.bytes = view(told.getData());
    part.range = {{told.getFileHi(), told.getFileLo()}, told.getOffset(), told.getBytes()};
    if (!part.bytes.empty() || part.range.bytes > 0) {
      out.push_back(std::move(part));
    }
  }

  /// Its image stays while it is open, hence here until the last part was sent.
  std::unique_ptr<inspect_session> session_;
};

/// The size of a file, to know what a range of it is.
asio::awaitable<answer<std::uint64_t>> size_of(exchange& x, uuid image, std::string path) {
  auto session = co_await inspect_session::open(x, image, proto::InspectVerb::STAT, path);
  if (session.has_error()) {
    co_return session.error();
  }
  co_return (*session)->size_bytes();
}

reply unsatisfiable(std::uint64_t size_bytes) {
  reply out{
      refusal{416, "the range is not within the file's " + std::to_string(size_bytes) + " bytes"}};
  out.headers.emplace_back("Content-Range", "bytes */" + std::to_string(size_bytes));
  return out;
}

std::string content_range(const byte_range& part, std::uint64_t size_bytes) {
  return "bytes " + std::to_string(part.first) + "-" + std::to_string(part.first + part.bytes - 1) +
         "/" + std::to_string(size_bytes);
}

asio::awaitable<reply> range_reply(exchange& x, uuid image, std::string path,
                                   range_request wanted) {
  auto size = co_await size_of(x, image, path);
  if (size.has_error()) {
    co_return reply{size.error()};
  }
  auto part = wanted.of(*size);
  if (!part) {
    co_return unsatisfiable(*size);
  }
  inspect_session::fill_order fill = [part](auto root) {
    root.setOffset(part->first);
    root.setBytes(part->bytes);
  };
  auto session = co_await inspect_session::open(x, image, proto::InspectVerb::DOWNLOAD, path, fill);
  if (session.has_error()) {
    co_return reply{session.error()};
  }
  reply out;
  out.status = 206;
  out.content_type = "application/octet-stream";
  out.headers.emplace_back("Content-Range", content_range(*part, *size));
  out.length = part->bytes;
  out.stream = std::make_unique<content_source>(x, std::move(*session));
  co_return out;
}

} // namespace

asio::awaitable<reply> get_inspect_download(exchange& x) {
  auto id = parse_id(x.params[0], "image");
  if (id.has_error()) {
    co_return reply{id.error()};
  }
  auto path = parse_path(x, {});
  if (path.has_error()) {
    co_return reply{path.error()};
  }
  reply out;
  out.content_type = "application/octet-stream";
  out.headers.emplace_back("Accept-Ranges", "bytes");
  if (x.is_head) { // ranges are for GET alone
    auto size = co_await size_of(x, *id, *path);
    if (size.has_error()) {
      co_return reply{size.error()};
    }
    out.length = *size;
    co_return out;
  }
  auto wanted = range_request::parse(x.fields.header("Range"));
  // With If-Range a client wants the whole where its validator is old; we give none out.
  if (wanted && x.fields.header("If-Range").empty()) {
    co_return co_await range_reply(x, *id, *path, *wanted);
  }
  auto session = co_await inspect_session::open(x, *id, proto::InspectVerb::DOWNLOAD, *path);
  if (session.has_error()) {
    co_return reply{session.error()};
  }
  out.length = (*session)->size_bytes();
  out.stream = std::make_unique<content_source>(x, std::move(*session));
  co_return out;
}

asio::awaitable<reply> get_inspect_archive(exchange& x) {
  auto id = parse_id(x.params[0], "image");
  if (id.has_error()) {
    co_return reply{id.error()};
  }
  auto path = parse_path(x, {});
  if (path.has_error()) {
    co_return reply{path.error()};
  }
  auto session = co_await inspect_session::open(x, *id, proto::InspectVerb::ARCHIVE, *path);
  if (session.has_error()) {
    co_return reply{session.error()};
  }
  reply out;
  out.content_type = "application/x-tar";
  out.stream = std::make_unique<content_source>(x, std::move(*session));
  co_return out;
}

} // namespace coppice::gateway
