#include "gateway/http/router.hpp"

#include "gateway/http/routes.hpp"

#include <optional>

namespace coppice::gateway {
namespace {

constexpr route table[] = {
    {"GET", "/healthz", get_health, 0, audience::anyone},
    {"GET", "/openapi.yaml", get_asset, 0, audience::anyone},
    {"GET", "/docs", get_asset, 0, audience::anyone},
    {"GET", "/docs/{}", get_asset, 0, audience::anyone},
    {"GET", "/readyz", get_ready, 0, audience::anyone},
    {"GET", "/metrics", get_metrics, 0, audience::observers},
    {"POST", "/admin/import", post_admin_import, may_import, audience::operators},

    {"GET", "/v1/whoami", get_whoami},

    {"POST", "/v1/images/import", post_import, may_import},
    {"GET", "/v1/images", get_images, may_list},
    {"GET", "/v1/images/{}", get_image, may_list},
    {"DELETE", "/v1/images/{}", delete_image, may_delete_image},
    {"GET", "/v1/images/{}/ancestors", get_image_ancestors, may_list},
    {"GET", "/v1/images/{}/children", get_image_children, may_list},
    {"GET", "/v1/images/{}/tree", get_image_tree, may_list},
    {"PATCH", "/v1/images/{}/tag", patch_tag, may_set_image_tag},
    {"DELETE", "/v1/images/{}/tag", delete_tag, may_set_image_tag},

    {"GET", "/v1/images/{}/diff/{}", get_image_diff, may_list},

    {"POST", "/v1/files", post_file, may_spawn | may_spawn_disposable},
    {"GET", "/v1/files", get_files, may_list},
    {"GET", "/v1/files/{}", get_file, may_list},

    {"POST", "/v1/instances", post_instance, may_spawn | may_spawn_disposable},

    {"GET", "/v1/operations", get_operations, may_list},
    {"GET", "/v1/operations/{}", get_operation, may_list},
    {"DELETE", "/v1/operations/{}", delete_operation, may_cancel},
    {"GET", "/v1/operations/{}/events", get_operation_events, may_list},

    {"GET", "/v1/operations/{}/subprocesses", get_subprocesses, may_list},
    {"POST", "/v1/operations/{}/subprocesses", post_subprocess, may_spawn | may_spawn_disposable},
    {"GET", "/v1/operations/{}/subprocesses/{}", get_subprocess, may_list},
    {"DELETE", "/v1/operations/{}/subprocesses/{}", delete_subprocess,
     may_cancel | may_spawn | may_spawn_disposable},
    {"POST", "/v1/operations/{}/subprocesses/{}/stdin", post_stdin,
     may_spawn | may_spawn_disposable},

    {"GET", "/v1/inspect", redirect_inspect, may_list},
    {"GET", "/v1/inspect/", get_inspect_tag, may_list},
    {"GET", "/v1/inspect/{}", redirect_inspect_image, may_list},
    {"GET", "/v1/inspect/{}/", get_inspect_image, may_list},
    {"GET", "/v1/inspect/{}/list", get_inspect_list, may_list},
    {"GET", "/v1/inspect/{}/download", get_inspect_download, may_list},
    {"GET", "/v1/inspect/{}/archive", get_inspect_archive, may_list},
    {"GET", "/v1/inspect/{}/grep", get_inspect_grep, may_list},
};

/// What the `{}` of the pattern stand for; nothing when the address is another.
std::optional<std::vector<std::string>> match_pattern(std::string_view pattern,
                                                      const std::vector<std::string>& segments) {
  std::vector<std::string> params;
  for (const auto& segment : segments) {
    if (pattern.empty()) {
      return std::nullopt;
    }
    pattern.remove_prefix(1);
    auto expected = pattern.substr(0, pattern.find('/'));
    pattern.remove_prefix(expected.size());
    if (expected == "{}" && !segment.empty()) {
      params.push_back(segment);
    } else if (expected != segment) {
      return std::nullopt;
    }
  }
  return pattern.empty() ? std::optional{std::move(params)} : std::nullopt;
}

} // namespace

std::span<const route> routes() {
  return table;
}

route_match match_route(std::string_view method, const std::vector<std::string>& segments,
                        const visitor& from) {
  route_match out;
  auto wanted = method == "HEAD" ? std::string_view{"GET"} : method;
  for (const auto& candidate : routes()) {
    if ((candidate.open_to == audience::operators && !from.is_operator) ||
        (candidate.open_to == audience::observers && !from.is_observer)) {
      continue;
    }
    auto params = match_pattern(candidate.pattern, segments);
    if (!params) {
      continue;
    }
    if (candidate.method == wanted) {
      out.found = &candidate;
      out.params = std::move(*params);
      return out;
    }
    out.allow += out.allow.empty() ? "" : ", ";
    out.allow += candidate.method;
    out.allow += candidate.method == "GET" ? ", HEAD" : "";
  }
  return out;
}

} // namespace coppice::gateway
