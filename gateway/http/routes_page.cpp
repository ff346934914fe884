#include "gateway/http/body_sources.hpp"
#include "gateway/http/routes.hpp"
#include "gateway/page/assets.hpp"

#include <algorithm>

namespace coppice::gateway {

asio::awaitable<reply> get_asset(exchange& x) {
  std::string path;
  for (const auto& segment : x.target.segments) {
    path += "/" + segment;
  }
  const auto all = assets();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const asset& one) { return one.path == path; });
  if (found == all.end()) {
    co_return reply{not_found("this build has no page of the API; it is described at "
                              "/openapi.yaml")};
  }
  reply out;
  out.content_type = std::string{found->content_type};
  out.headers.emplace_back("Cache-Control", "max-age=3600");
  // What the page may load: this server's files. Its own styles come inline.
  out.headers.emplace_back("Content-Security-Policy",
                           "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' "
                           "data:; frame-ancestors 'none'");
  out.length = found->content.size();
  if (!x.is_head) {
    out.stream = std::make_unique<constant_source>(found->content);
  }
  co_return out;
}

} // namespace coppice::gateway
