#include "gateway/http/cors.hpp"

#include <algorithm>

namespace coppice::gateway {

bool cors_policy::allows(std::string_view origin) const {
  return !origin.empty() && (origins_.front() == "*" ||
                             std::find(origins_.begin(), origins_.end(), origin) != origins_.end());
}

std::string cors_policy::header_lines(std::string_view origin) const {
  std::string out;
  if (!is_on()) {
    return out;
  }
  bool is_any = origins_.front() == "*";
  if (!is_any) {
    out += "Vary: Origin\r\n"; // also when it is none of them: a cache must ask again
  }
  if (allows(origin)) {
    out += "Access-Control-Allow-Origin: ";
    out += is_any ? "*" : origin;
    out += "\r\nAccess-Control-Expose-Headers: Location, Retry-After, X-Request-Id\r\n";
  }
  return out;
}

reply cors_policy::preflight(std::string_view methods) {
  reply out;
  out.status = 204;
  out.headers.emplace_back("Access-Control-Allow-Methods", methods);
  out.headers.emplace_back("Access-Control-Allow-Headers",
                           "Authorization, Content-Type, Idempotency-Key, Last-Event-Id, Project, "
                           "Range, X-Request-Id");
  out.headers.emplace_back("Access-Control-Max-Age", "600");
  return out;
}

} // namespace coppice::gateway
