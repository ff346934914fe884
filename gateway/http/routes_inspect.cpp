#include "gateway/http/body_sources.hpp"
#include "gateway/http/inspect_query.hpp"
#include "gateway/http/inspect_session.hpp"
#include "gateway/http/json_records.hpp"
#include "gateway/http/json_session_source.hpp"
#include "gateway/http/listing_text.hpp"
#include "gateway/http/names.hpp"
#include "gateway/http/routes.hpp"

namespace coppice::gateway {
namespace {

/// A text listing is held up to here; a longer one is read a second time.
constexpr std::size_t held_listing_bytes_max = 256u << 10;

/// `{"path":P,"files":[…]}`.
class json_listing : public json_session_source {
public:
  json_listing(std::unique_ptr<inspect_session> session, std::string_view path)
      : json_session_source{std::move(session)} {
    json_.begin_object();
    json_.member("path", path);
    json_.key("files");
    json_.begin_array();
  }

private:
  void write(proto::InspectChunk::Reader told) override {
    if (told.isEntries()) {
      for (auto entry : told.getEntries()) {
        write_file_entry(json_, entry);
      }
    }
  }

  void end(proto::InspectChunk::Reader) override {
    json_.end_array();
    json_.end_object();
  }
};

/// The lines of a directory.
class text_listing : public body_source {
public:
  explicit text_listing(std::unique_ptr<inspect_session> session) : session_{std::move(session)} {}

  asio::awaitable<answer<std::string>> next() override {
    std::string out;
    while (out.empty() && !session_->has_ended()) {
      auto chunk = co_await session_->next();
      if (chunk.has_error()) {
        co_return chunk.error();
      }
      auto content = chunk->view();
      if (content->isEntries()) {
        for (auto entry : content->getEntries()) {
          total_bytes_ += entry.getSizeBytes();
          out += listing_line(entry);
        }
      }
    }
    co_return out;
  }

  std::uint64_t total_bytes() const {
    return total_bytes_;
  }

private:
  std::unique_ptr<inspect_session> session_;
  std::uint64_t total_bytes_ = 0;
};

/// The total comes first, so the directory is read to its end before anything is sent; what does
/// not fit into memory meanwhile is read again.
asio::awaitable<reply> text_reply(exchange& x, uuid image, const std::string& path,
                                  std::unique_ptr<inspect_session> session) {
  text_listing first{std::move(session)};
  std::string held;
  bool is_whole = true;
  for (;;) {
    auto lines = co_await first.next();
    if (lines.has_error()) {
      co_return reply{lines.error()};
    }
    if (lines->empty()) {
      break;
    }
    is_whole = is_whole && held.size() + lines->size() <= held_listing_bytes_max;
    if (is_whole) {
      held += *lines;
    }
  }
  reply out;
  out.content_type = "text/plain; charset=utf-8";
  auto header = "total " + human_size(first.total_bytes()) + "\n";
  if (is_whole) {
    out.body = header + held;
    co_return out;
  }
  auto again = co_await inspect_session::open(x, image, proto::InspectVerb::LIST, path);
  if (again.has_error()) {
    co_return reply{again.error()};
  }
  auto parts = std::make_unique<sequence_source>();
  parts->add(std::make_unique<text_source>(std::move(header)));
  parts->add(std::make_unique<text_listing>(std::move(*again)));
  out.stream = std::move(parts);
  co_return out;
}

asio::awaitable<answer<frame<proto::ImageRow>>> find_by_tag(exchange& x, std::string_view tag) {
  auto request = make_frame<proto::ResolveTag>([&](auto root) {
    root.setProject(x.who.project);
    root.setTag(std::string{tag});
  });
  return x.read<proto::ImageRow>(x.inside().catalog, std::move(request));
}

} // namespace

asio::awaitable<reply> redirect_inspect(exchange& x) {
  auto query = x.target.raw_query.empty() ? "" : "?" + x.target.raw_query;
  co_return redirect(301, "inspect/" + query);
}

asio::awaitable<reply> get_inspect_tag(exchange& x) {
  auto tag = x.query().find("tag").value_or("");
  if (tag.empty()) {
    co_return reply{bad_request("tag is required")};
  }
  if (!is_tag(tag)) {
    co_return reply{not_found("no such tag")};
  }
  auto found = co_await find_by_tag(x, tag);
  if (found.has_error()) {
    co_return reply{found.error()};
  }
  co_return redirect(302, uuid::from(found->view()->getImage().getId()).text() + "/");
}

asio::awaitable<reply> redirect_inspect_image(exchange& x) {
  auto id = parse_id(x.params[0], "image");
  if (id.has_error()) {
    co_return reply{id.error()};
  }
  co_return redirect(301, id->text() + "/");
}

asio::awaitable<reply> get_inspect_image(exchange& x) {
  auto id = parse_id(x.params[0], "image");
  if (id.has_error()) {
    co_return reply{id.error()};
  }
  auto request = make_frame<proto::GetImage>([&](auto root) {
    root.setProject(x.who.project);
    id->to(root.initId());
  });
  auto found = co_await x.read<proto::ImageRow>(x.inside().catalog, std::move(request));
  if (found.has_error()) {
    co_return reply{found.error()};
  }
  auto row = found->view();
  json_writer json;
  write_image(json, *row);
  co_return reply{200, json.take()};
}

asio::awaitable<reply> get_inspect_list(exchange& x) {
  auto id = parse_id(x.params[0], "image");
  if (id.has_error()) {
    co_return reply{id.error()};
  }
  auto path = parse_path(x, "/");
  if (path.has_error()) {
    co_return reply{path.error()};
  }
  auto is_text = x.query().flag("text");
  if (is_text.has_error()) {
    co_return reply{is_text.error()};
  }
  auto session = co_await inspect_session::open(x, *id, proto::InspectVerb::LIST, *path);
  if (session.has_error()) {
    co_return reply{session.error()};
  }
  if (*is_text) {
    co_return co_await text_reply(x, *id, *path, std::move(*session));
  }
  reply out;
  out.stream = std::make_unique<json_listing>(std::move(*session), *path);
  co_return out;
}

} // namespace coppice::gateway
