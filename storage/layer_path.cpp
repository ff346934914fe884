#include "storage/layer_path.hpp"

#include "storage/error.hpp"
#include "storage/printable.hpp"

namespace coppice::storage {

namespace {

constexpr std::string_view whiteout_prefix = ".wh.";
constexpr std::string_view aufs_prefix = ".wh..wh.";
constexpr std::string_view opaque_name = ".wh..wh..opq";

result<path_components> split(std::string_view raw) {
  if (raw.size() > layer_path_bytes_max) {
    return fail(ec::too_large, "path longer than 4096 bytes");
  }
  if (raw.find('\0') != raw.npos) {
    return fail(ec::damaged, "path with a zero byte");
  }
  path_components out;
  while (!raw.empty()) {
    auto name = raw.substr(0, raw.find('/'));
    raw.remove_prefix(std::min(raw.size(), name.size() + 1));
    if (name.empty() || name == ".") {
      continue;
    }
    if (name == "..") {
      return fail(ec::damaged, "path with \"..\"");
    }
    // A whiteout's prefix is not part of the name that it hides.
    if (name.size() > name_bytes_max + whiteout_prefix.size() ||
        (name.size() > name_bytes_max && !name.starts_with(whiteout_prefix))) {
      return fail(ec::too_large, "name longer than 255 bytes");
    }
    out.emplace_back(name);
  }
  return out;
}

result<void> refuse_whiteouts(const path_components& components, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    if (components[i].starts_with(whiteout_prefix)) {
      return fail(ec::damaged, "directory " + printable(components[i]) +
                                   " is named like a whiteout, which the image format reserves");
    }
  }
  return {};
}

} // namespace

result<layer_path> parse_layer_path(std::string_view raw) {
  auto components = split(raw);
  if (!components) {
    return components.error();
  }
  layer_path out;
  out.components = std::move(*components);
  if (out.components.empty()) {
    return out;
  }
  if (auto checked = refuse_whiteouts(out.components, out.components.size() - 1); !checked) {
    return checked.error();
  }
  auto& name = out.components.back();
  if (name == opaque_name) {
    out.what = layer_path::kind::opaque;
    out.components.pop_back();
  } else if (name.starts_with(aufs_prefix)) {
    out.what = layer_path::kind::ignored;
  } else if (name.starts_with(whiteout_prefix)) {
    out.what = layer_path::kind::whiteout;
    name.erase(0, whiteout_prefix.size());
    if (name.empty() || name == "." || name == "..") {
      return fail(ec::damaged, "whiteout of " + printable(name));
    }
  }
  return out;
}

result<path_components> parse_link_target(std::string_view raw) {
  auto components = split(raw);
  if (!components) {
    return components;
  }
  if (components->empty()) {
    return fail(ec::damaged, "hard link to the root directory");
  }
  if (auto checked = refuse_whiteouts(*components, components->size()); !checked) {
    return checked.error();
  }
  return components;
}

} // namespace coppice::storage
