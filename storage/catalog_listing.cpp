#include "storage/catalog_listing.hpp"

#include "storage/catalog_images.hpp"

#include <optional>

namespace coppice::storage {

namespace {

using image_refs = std::vector<image_ref>;

// A tag's prefix and bounds of time together are two ranges, and no order of keys serves both at
// once. So the walk over the prefix gets this many steps, then the walk over the times, and only if
// neither is through, the first goes on: a page costs what the narrower of the two filters has, up
// to these, and records are taken out for its rows only.
constexpr std::uint64_t prefix_steps = 4096;
constexpr std::uint64_t time_steps = 16'384;

/// The tags of a project that begin with a prefix, in their order: the one that is the prefix
/// itself comes first.
class tag_walk {
public:
  tag_walk(lmdb::transaction& in, const tables& t, std::string_view project,
           std::string_view prefix, const window& wanted)
      : wanted_{wanted}, scope_bytes_{project.size() + 1},
        from_{keys::project_key(project) + std::string{prefix}}, at_{in, t.tags} {
    more_ = at_.seek(from_) && at_.key().starts_with(from_);
  }

  /// False: `steps_max` did not suffice; it can go on.
  bool go(std::uint64_t steps_max) {
    for (std::uint64_t step = 0; more_ && refs_.size() < wanted_.limit; ++step) {
      if (step == steps_max) {
        return false;
      }
      if (const auto target = target_of(at_.value()); wanted_.has(target.created_unix_ns)) {
        if (skipped_ < wanted_.offset) {
          ++skipped_;
        } else {
          refs_.push_back({target.image, std::string{at_.key().substr(scope_bytes_)}});
        }
      }
      more_ = at_.next() && at_.key().starts_with(from_);
    }
    return true;
  }

  image_refs take() {
    return std::move(refs_);
  }

private:
  window wanted_;
  std::size_t scope_bytes_;
  std::string from_;
  lmdb::cursor at_;
  bool more_ = false;
  std::uint64_t skipped_ = 0;
  image_refs refs_;
};

image_ref ref_of(std::string_view newest_first_id_tag) {
  const auto id_tag = newest_first_id_tag.substr(keys::time_bytes);
  return {keys::id_of(id_tag), std::string{id_tag.substr(keys::id_bytes)}};
}

/// The same page, found by time. Nothing: the times hold more than `steps_max` rows.
std::optional<image_refs> refs_of_times(lmdb::transaction& in, const tables& t,
                                        std::string_view project, std::string_view prefix,
                                        const window& wanted, std::uint64_t steps_max) {
  image_refs refs;
  std::uint64_t steps = 0;
  walk_times(in, t.image_index, image_index_prefix(project, row_scope::tagged), wanted,
             [&](std::string_view rest, std::string_view) {
               if (rest.substr(keys::time_bytes + keys::id_bytes).starts_with(prefix)) {
                 refs.push_back(ref_of(rest));
               }
               return ++steps <= steps_max;
             });
  if (steps > steps_max) {
    return std::nullopt;
  }
  std::sort(refs.begin(), refs.end(),
            [](const image_ref& a, const image_ref& b) { return a.tag < b.tag; });
  const auto first = std::min<std::uint64_t>(wanted.offset, refs.size());
  refs.erase(refs.begin(), refs.begin() + static_cast<std::ptrdiff_t>(first));
  refs.resize(std::min<std::size_t>(refs.size(), wanted.limit));
  return refs;
}

image_refs refs_of_prefix(lmdb::transaction& in, const tables& t, std::string_view project,
                          std::string_view prefix, const window& wanted) {
  if (wanted.limit == 0 || prefix.size() > keys::tag_bytes_max) {
    return {}; // no tag is that long
  }
  tag_walk by_tag{in, t, project, prefix, wanted};
  if (!wanted.has_all() && !by_tag.go(prefix_steps)) {
    if (auto by_time = refs_of_times(in, t, project, prefix, wanted, time_steps)) {
      return std::move(*by_time);
    }
  }
  by_tag.go(std::numeric_limits<std::uint64_t>::max());
  return by_tag.take();
}

/// The rows of one image.
image_refs refs_of_image(lmdb::transaction& in, const tables& t, proto::ListImages::Reader request,
                         const window& wanted) {
  const auto id = uuid::from(request.getId());
  auto image = load_image(in, t, view_of(request.getProject()), id);
  image_refs refs;
  if (wanted.limit == 0 || image.empty() || !wanted.has(image.view()->getCreatedAtUnixNs())) {
    return refs;
  }
  const auto prefix = view_of(request.getTagPrefix());
  if (prefix.empty() && !request.getTaggedOnly() && !next_tag(in, t, id)) {
    if (wanted.offset == 0) {
      refs.push_back({id, {}});
    }
    return refs;
  }
  if (prefix.size() > keys::tag_bytes_max) {
    return refs;
  }
  const auto from = keys::of(id) + std::string{prefix};
  std::uint64_t skipped = 0;
  lmdb::cursor at{in, t.image_tags};
  for (bool more = at.seek(from); more && refs.size() < wanted.limit && at.key().starts_with(from);
       more = at.next()) {
    if (skipped < wanted.offset) {
      ++skipped;
    } else {
      refs.push_back({id, std::string{at.key().substr(keys::id_bytes)}});
    }
  }
  return refs;
}

} // namespace

std::vector<image_ref> find_images(lmdb::transaction& in, const tables& t,
                                   proto::ListImages::Reader request) {
  const auto wanted = window::of(request);
  const auto project = view_of(request.getProject());
  if (uuid::from(request.getId())) {
    return refs_of_image(in, t, request, wanted);
  }
  if (request.getTagPrefix().size() != 0) {
    return refs_of_prefix(in, t, project, view_of(request.getTagPrefix()), wanted);
  }
  const auto scope = request.getTaggedOnly() ? row_scope::tagged : row_scope::all;
  image_refs refs;
  walk_newest_first(in, t.image_index, image_index_prefix(project, scope), wanted,
                    [&](std::string_view rest, std::string_view) { refs.push_back(ref_of(rest)); });
  return refs;
}

} // namespace coppice::storage
