#include "gateway/http/inspect_query.hpp"

namespace coppice::gateway {
namespace {

constexpr std::size_t path_bytes_max = 4096; // PATH_MAX

} // namespace

answer<std::string> absolute_path(std::string_view path, std::string_view name) {
  if (path.empty()) {
    return bad_request(std::string{name} + " is required");
  }
  if (path.size() > path_bytes_max || path.find('\0') != std::string_view::npos) {
    return bad_request(std::string{name} + " must be at most 4096 bytes without NUL characters");
  }
  return path.starts_with('/') ? std::string{path} : "/" + std::string{path};
}

answer<std::string> parse_path(const exchange& x, std::string_view fallback) {
  return absolute_path(x.query().find("path").value_or(fallback), "path");
}

} // namespace coppice::gateway
