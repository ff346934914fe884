#include "gateway/http/inspect_query.hpp"
#include "gateway/http/inspect_session.hpp"
#include "gateway/http/json_records.hpp"
#include "gateway/http/json_text.hpp"
#include "gateway/http/routes.hpp"

#include <utility>

// What one image has otherwise than another. Not in the contract: ours.

namespace coppice::gateway {
namespace {

constexpr std::uint64_t changes_default = 1000;
constexpr std::uint64_t changes_max = 100'000;

/// Both images, open: neither goes away meanwhile.
struct compared_images {
  std::unique_ptr<inspect_session> newer; ///< held
  std::unique_ptr<inspect_session> session;

  /// The session's next piece. Whoever holds an image has to say now and then that it still does.
  asio::awaitable<answer<frame<proto::InspectChunk>>> next() {
    auto held = co_await newer->next();
    if (held.has_error()) {
      co_return held.error();
    }
    co_return co_await session->next();
  }
};

asio::awaitable<answer<compared_images>> compare(exchange& x, uuid older, uuid newer,
                                                 proto::InspectVerb verb, std::string path) {
  inspect_session::fill_order fill = [newer](auto root) {
    newer.to(root.initOther());
  };
  // An image that is compared with itself is only held (actors/image.cpp).
  auto held = co_await inspect_session::open(x, newer, proto::InspectVerb::DIFF, {}, fill);
  if (held.has_error()) {
    co_return held.error();
  }
  auto session = co_await inspect_session::open(x, older, verb, path, fill);
  if (session.has_error()) {
    co_return session.error();
  }
  compared_images out;
  out.newer = std::move(*held);
  out.session = std::move(*session);
  co_return std::move(out);
}

std::string_view kind_text(proto::PathChange::Kind kind) {
  switch (kind) {
  case proto::PathChange::Kind::ADDED:
    return "added";
  case proto::PathChange::Kind::REMOVED:
    return "removed";
  case proto::PathChange::Kind::CHANGED:
    return "changed";
  }
  return "changed";
}

void write_change(json_writer& json, proto::PathChange::Reader change) {
  const auto kind = change.getKind();
  json.begin_object();
  json.member("path", "/" + std::string{view(change.getPath())});
  json.member("change", kind_text(kind));
  const auto side = [&](const char* size_key, const char* mode_key, bool is_there,
                        std::uint64_t size, std::uint32_t mode) {
    json.member(size_key, is_there ? std::optional{size} : std::nullopt);
    json.member(mode_key, is_there ? std::optional{mode} : std::nullopt);
  };
  side("old_size", "old_mode", kind != proto::PathChange::Kind::ADDED, change.getOldSizeBytes(),
       change.getOldMode());
  side("new_size", "new_mode", kind != proto::PathChange::Kind::REMOVED, change.getNewSizeBytes(),
       change.getNewMode());
  json.member("content", change.getContent());
  json.member("attributes", change.getAttributes());
  json.end_object();
}

/// `{"from":…,"to":…,"changes":[…],"truncated":…}`: a page of the changes.
class diff_source : public body_source {
public:
  diff_source(compared_images images, uuid older, uuid newer, std::uint64_t offset,
              std::uint64_t limit)
      : images_{std::move(images)}, skipped_left_{offset}, left_{limit} {
    json_.begin_object();
    json_.member("from", older.text());
    json_.member("to", newer.text());
    json_.key("changes");
    json_.begin_array();
  }

  asio::awaitable<answer<std::string>> next() override {
    std::string out;
    while (out.empty() && !has_ended_) {
      auto chunk = co_await images_.next();
      if (chunk.has_error()) {
        co_return chunk.error();
      }
      auto told = chunk->view();
      if (told->isChanges()) {
        for (auto change : told->getChanges()) {
          take(change);
        }
      }
      if (is_truncated_ || images_.session->has_ended()) {
        has_ended_ = true;
        is_truncated_ = is_truncated_ || told->getTruncated();
        json_.end_array();
        json_.member("truncated", is_truncated_);
        json_.end_object();
      }
      out = json_.take();
    }
    co_return out;
  }

private:
  void take(proto::PathChange::Reader change) {
    if (skipped_left_ > 0) {
      --skipped_left_;
    } else if (left_ == 0) {
      is_truncated_ = true;
    } else {
      --left_;
      write_change(json_, change);
    }
  }

  compared_images images_;
  json_writer json_;
  std::uint64_t skipped_left_;
  std::uint64_t left_;
  bool is_truncated_ = false;
  bool has_ended_ = false;
};

/// The reader's text, as it comes.
class diff_text_source : public body_source {
public:
  explicit diff_text_source(compared_images images) : images_{std::move(images)} {}

  asio::awaitable<answer<std::string>> next() override {
    std::string out;
    while (out.empty() && !images_.session->has_ended()) {
      auto chunk = co_await images_.next();
      if (chunk.has_error()) {
        co_return chunk.error();
      }
      auto told = chunk->view();
      if (told->isData()) {
        out = view(told->getData());
      }
    }
    co_return out;
  }

private:
  compared_images images_;
};

asio::awaitable<reply> text_diff(exchange& x, uuid older, uuid newer, std::string path) {
  auto images = co_await compare(x, older, newer, proto::InspectVerb::TEXT_DIFF, path);
  if (images.has_error()) {
    co_return reply{images.error()};
  }
  reply out;
  out.content_type = "text/plain; charset=utf-8";
  out.stream = std::make_unique<diff_text_source>(std::move(*images));
  co_return out;
}

/// An image and itself: nobody need read it to know.
asio::awaitable<reply> no_difference(exchange& x, uuid image, bool is_text) {
  inspect_session::fill_order fill = [image](auto root) {
    image.to(root.initOther());
  };
  auto held = co_await inspect_session::open(x, image, proto::InspectVerb::DIFF, {}, fill);
  if (held.has_error()) {
    co_return reply{held.error()};
  }
  reply out;
  if (is_text) {
    out.content_type = "text/plain; charset=utf-8";
    co_return out;
  }
  json_writer json;
  json.begin_object();
  json.member("from", image.text());
  json.member("to", image.text());
  json.key("changes");
  json.begin_array();
  json.end_array();
  json.member("truncated", false);
  json.end_object();
  out.body = json.take();
  co_return out;
}

} // namespace

asio::awaitable<reply> get_image_diff(exchange& x) {
  auto older = parse_id(x.params[0], "image");
  auto newer = parse_id(x.params[1], "image");
  if (older.has_error() || newer.has_error()) {
    co_return reply{older.has_error() ? older.error() : newer.error()};
  }
  auto is_text = x.query().flag("text");
  auto offset = parse_number(x.query(), "offset", 0, UINT32_MAX);
  auto limit = parse_number(x.query(), "limit", changes_default, changes_max);
  if (is_text.has_error()) {
    co_return reply{is_text.error()};
  }
  if (offset.has_error() || limit.has_error()) {
    co_return reply{offset.has_error() ? offset.error() : limit.error()};
  }
  if (*limit == 0) {
    co_return reply{bad_request("limit must be between 1 and 100000")};
  }
  std::string path;
  if (*is_text) {
    auto given = parse_path(x, {});
    if (given.has_error()) {
      co_return reply{given.error()};
    }
    path = std::move(*given);
  }
  if (*older == *newer) {
    co_return co_await no_difference(x, *older, *is_text);
  }
  if (*is_text) {
    co_return co_await text_diff(x, *older, *newer, std::move(path));
  }
  auto images = co_await compare(x, *older, *newer, proto::InspectVerb::DIFF, {});
  if (images.has_error()) {
    co_return reply{images.error()};
  }
  reply out;
  out.stream = std::make_unique<diff_source>(std::move(*images), *older, *newer, *offset, *limit);
  co_return out;
}

} // namespace coppice::gateway
