#include "gateway/http/inspect_session.hpp"

#include <algorithm>

namespace coppice::gateway {

namespace {

constexpr std::uint64_t content_bytes_max = 64u << 20;

} // namespace

asio::awaitable<answer<std::unique_ptr<inspect_session>>>
inspect_session::open(exchange& x, uuid image, proto::InspectVerb verb, std::string path) {
  return open(x, image, verb, std::move(path), [](proto::InspectOpen::Builder) {
    // nothing more
  });
}

asio::awaitable<answer<std::unique_ptr<inspect_session>>>
inspect_session::open(exchange& x, uuid image, proto::InspectVerb verb, std::string path,
                      fill_order fill) {
  auto request = make_frame<proto::InspectOpen>([&](auto root) {
    root.setProject(x.who.project);
    image.to(root.initImage());
    root.setVerb(verb);
    root.setPath(path);
    fill(root);
  });
  auto opened = co_await x.write<proto::InspectSession>(x.inside().images, std::move(request));
  if (opened.has_error()) {
    co_return opened.error();
  }
  auto session = opened->view();
  co_return std::make_unique<inspect_session>(x, image, session->getSession(),
                                              session->getSizeBytes());
}

inspect_session::~inspect_session() {
  if (!has_ended_) {
    door::tell(exchange_.inside().images, make_frame<proto::InspectClose>([&](auto root) {
                 image_.to(root.initImage());
                 root.setSession(number_);
               }));
  }
}

/// A piece should take its client about a second.
void inspect_session::adapt() {
  const auto now = clock::now();
  if (given_ && now - *given_ < std::chrono::milliseconds{500}) {
    content_bytes_ = std::min(content_bytes_ * 2, content_bytes_max);
  } else if (given_ && now - *given_ > std::chrono::seconds{2}) {
    content_bytes_ = std::max(content_bytes_ / 4, content_bytes_min);
  }
}

asio::awaitable<answer<frame<proto::InspectChunk>>> inspect_session::next() {
  adapt();
  auto request = make_frame<proto::InspectNext>([&](auto root) {
    image_.to(root.initImage());
    root.setSession(number_);
    root.setContentBytesMax(content_bytes_);
  });
  auto chunk =
      co_await exchange_.write<proto::InspectChunk>(exchange_.inside().images, std::move(request));
  if (chunk.has_value()) {
    has_ended_ = chunk->view()->isEnd() || chunk->view()->getLast();
    given_ = clock::now();
  }
  co_return chunk;
}

} // namespace coppice::gateway
