#include "gateway/http/inspect_session.hpp"

namespace coppice::gateway {

asio::awaitable<answer<std::unique_ptr<inspect_session>>>
inspect_session::open(exchange& x, uuid image, proto::InspectVerb verb, std::string path) {
  auto request = make_frame<proto::InspectOpen>([&](auto root) {
    root.setProject(x.who.project);
    image.to(root.initImage());
    root.setVerb(verb);
    root.setPath(path);
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

asio::awaitable<answer<frame<proto::InspectChunk>>> inspect_session::next() {
  auto request = make_frame<proto::InspectNext>([&](auto root) {
    image_.to(root.initImage());
    root.setSession(number_);
  });
  auto chunk =
      co_await exchange_.write<proto::InspectChunk>(exchange_.inside().images, std::move(request));
  if (chunk.has_value()) {
    has_ended_ = chunk->view()->isEnd();
  }
  co_return chunk;
}

} // namespace coppice::gateway
