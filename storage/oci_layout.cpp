#include "storage/oci_layout.hpp"

#include "storage/error.hpp"
#include "storage/oci_blob.hpp"
#include "storage/printable.hpp"

#include <optional>
#include <set>

namespace coppice::storage::oci {

namespace {

bool is_ours(std::string_view os, std::string_view architecture) {
  return os == "linux" && architecture == "amd64";
}

class search {
public:
  explicit search(const std::filesystem::path& layout) : layout_{layout} {
    // nop
  }

  result<void> visit(const std::vector<descriptor>& entries, int depth) {
    for (const auto& entry : entries) {
      if (best_ && best_is_plain_) {
        return {};
      }
      if (auto visited = visit(entry, depth); !visited) {
        return visited;
      }
    }
    return {};
  }

  result<chosen_image> finish() && {
    if (best_) {
      return std::move(*best_);
    }
    if (refused_) {
      return std::move(*refused_);
    }
    std::string found;
    for (const auto& platform : platforms_) {
      found += (found.empty() ? "" : ", ") + platform;
    }
    return fail(ec::unsupported, "no linux/amd64 image in the layout; found: " +
                                     (found.empty() ? std::string{"nothing"} : found));
  }

private:
  result<void> visit(const descriptor& entry, int depth) {
    if (entry.is_index()) {
      return visit_index(entry, depth);
    }
    if (!entry.is_manifest()) {
      note("something of type " + printable(entry.media_type));
      return {};
    }
    if (entry.has_platform && !is_ours(entry.os, entry.architecture)) {
      note(printable(entry.os + "/" + entry.architecture));
      return {};
    }
    const bool is_plain = entry.variant.empty() || entry.variant == "v1";
    if (best_ && !is_plain) {
      return {};
    }
    return visit_manifest(entry, is_plain);
  }

  result<void> visit_index(const descriptor& entry, int depth) {
    if (depth >= index_depth_max) {
      return fail(ec::too_large, "image indexes nested deeper than 4");
    }
    auto text = read(entry);
    if (!text) {
      return text.error();
    }
    auto entries = parse_index(*text);
    if (!entries) {
      return inside(entry, entries.error());
    }
    return visit(*entries, depth + 1);
  }

  result<void> visit_manifest(const descriptor& entry, bool is_plain) {
    auto text = read(entry);
    if (!text) {
      return text.error();
    }
    auto parsed = parse_manifest(*text);
    if (!parsed && parsed.error().code == ec::unsupported) {
      // An artifact beside the image, or an image that we cannot import: only the latter matters,
      // and only if nothing else is found.
      if (!refused_) {
        refused_ = inside(entry, parsed.error());
      }
      return {};
    }
    if (!parsed) {
      return inside(entry, parsed.error());
    }
    auto config_text = read(parsed->config);
    if (!config_text) {
      return config_text.error();
    }
    auto config = parse_image_config(*config_text);
    if (!config) {
      return inside(parsed->config, config.error());
    }
    if (!entry.has_platform && !is_ours(config->os, config->architecture)) {
      note(printable(config->os + "/" + config->architecture));
      return {};
    }
    best_ = chosen_image{entry.digest, std::move(*parsed), std::move(*config)};
    best_is_plain_ = is_plain;
    return {};
  }

  result<std::string> read(const descriptor& entry) {
    if (++documents_ > documents_max) {
      return fail(ec::too_large, "the layout's indexes lead to more than 256 documents");
    }
    return read_document(layout_, entry);
  }

  /// The same failure, with the document it was found in.
  static failure inside(const descriptor& entry, const failure& inner) {
    return {inner.code, entry.digest + ": " + inner.text};
  }

  void note(std::string platform) {
    if (platforms_.size() < 16) {
      platforms_.insert(std::move(platform));
    }
  }

  const std::filesystem::path& layout_;
  std::optional<chosen_image> best_;
  bool best_is_plain_ = false;
  std::optional<failure> refused_;
  int documents_ = 0;
  std::set<std::string> platforms_;
};

} // namespace

result<chosen_image> choose_image(const std::filesystem::path& layout) {
  auto marker = read_layout_file(layout, "oci-layout");
  if (!marker) {
    return marker.error();
  }
  if (auto checked = check_layout_marker(*marker); !checked) {
    return checked.error();
  }
  auto index = read_layout_file(layout, "index.json");
  if (!index) {
    return index.error();
  }
  auto entries = parse_index(*index);
  if (!entries) {
    return failure{entries.error().code, "index.json: " + entries.error().text};
  }
  search found{layout};
  if (auto visited = found.visit(*entries, 0); !visited) {
    return visited.error();
  }
  return std::move(found).finish();
}

} // namespace coppice::storage::oci
