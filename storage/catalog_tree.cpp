#include "storage/catalog_tree.hpp"

#include "storage/catalog.hpp"
#include "storage/catalog_images.hpp"
#include "storage/catalog_impl.hpp"
#include "storage/catalog_keys.hpp"

#include <algorithm>
#include <deque>

namespace coppice::storage {

namespace {

bool is_live(lmdb::transaction& in, const tables& t, const uuid& image) {
  return in.has(t.images, keys::of(image));
}

/// On whose file that of the image stands; nil: on none, or there is none.
uuid file_parent(lmdb::transaction& in, const tables& t, const uuid& image) {
  const auto value = in.get(t.image_files, keys::of(image));
  return value && value->size() == keys::id_bytes ? keys::id_of(*value) : uuid{};
}

/// Far behind any row, and sums with a limit stay small.
constexpr std::uint64_t offset_max = 1ull << 40;

/// An image whose children are still to be looked at.
struct open_node {
  uuid image;
  uuid living; ///< it, or the nearest above it that lives
  std::uint32_t distance = 0;
};

} // namespace

tree_walk walk_ancestors(lmdb::transaction& in, const tables& t, const uuid& from,
                         const tree_bounds& bounds) {
  tree_walk out;
  const auto end = std::min<std::size_t>(bounds.distance_max, bounds.offset + bounds.limit);
  std::vector<uuid> living;
  std::size_t visits = 0;
  // One more than is wanted: the last one's parent.
  for (auto at = file_parent(in, t, from); at && living.size() <= end;
       at = file_parent(in, t, at)) {
    if (visits++ >= bounds.visits_max) {
      out.is_truncated = out.is_too_large = true;
      break;
    }
    if (is_live(in, t, at)) {
      living.push_back(at);
    }
  }
  out.is_truncated = out.is_truncated || living.size() > bounds.offset + bounds.limit;
  for (auto i = bounds.offset; i < std::min(end, living.size()); ++i) {
    out.nodes.push_back({living[i], i + 1 < living.size() ? living[i + 1] : uuid{},
                         static_cast<std::uint32_t>(i + 1)});
  }
  return out;
}

tree_walk walk_descendants(lmdb::transaction& in, const tables& t, const uuid& from,
                           const tree_bounds& bounds) {
  tree_walk out;
  std::size_t seen = 0;
  std::size_t visits = 0;
  std::deque<open_node> open{{from, from, 0}};
  while (!open.empty()) {
    const auto node = open.front();
    open.pop_front();
    const auto prefix = keys::of(node.image);
    std::vector<open_node> dead;
    lmdb::cursor at{in, t.image_file_children};
    for (bool more = at.seek(prefix); more && at.key().starts_with(prefix); more = at.next()) {
      const auto child = keys::id_of(at.key().substr(prefix.size()));
      const bool lives = is_live(in, t, child);
      out.is_too_large = visits++ >= bounds.visits_max;
      if (out.is_too_large || (lives && seen == bounds.offset + bounds.limit)) {
        out.is_truncated = true;
        return out;
      }
      if (!lives) {
        dead.push_back({child, node.living, node.distance});
        continue;
      }
      if (seen++ >= bounds.offset) {
        out.nodes.push_back({child, node.living, node.distance + 1});
      }
      if (node.distance + 1 < bounds.distance_max) {
        open.push_back({child, child, node.distance + 1});
      }
    }
    open.insert(open.begin(), dead.begin(), dead.end()); // before those further away
  }
  return out;
}

result<frame<proto::ImageTree>> catalog::walk_tree(proto::WalkTree::Reader request) const {
  using answer = frame<proto::ImageTree>;
  return impl_->read<answer>("walk tree", [&](lmdb::transaction& in) -> result<answer> {
    const auto from = uuid::from(request.getImage());
    const auto project = view_of(request.getProject());
    if (load_image(in, impl_->t, project, from).empty()) {
      return fail(ec::not_found, "no image " + from.text() + " in project " + std::string{project});
    }
    tree_bounds bounds;
    bounds.distance_max = request.getDistanceMax();
    bounds.offset = std::min<std::uint64_t>(request.getOffset(), offset_max);
    bounds.limit = std::min(request.getLimit(), page_rows_max);
    const auto walk = request.getUpwards() ? walk_ancestors(in, impl_->t, from, bounds)
                                           : walk_descendants(in, impl_->t, from, bounds);
    if (walk.is_too_large && walk.nodes.empty()) {
      return fail(ec::unsupported,
                  "what lies behind offset " + std::to_string(bounds.offset) +
                      " is further away than a walk goes, which looks at " +
                      std::to_string(bounds.visits_max) +
                      " images, deleted ones too: begin at an image that is nearer to it");
    }
    std::vector<frame<proto::ImageRow>> rows;
    for (const auto& node : walk.nodes) {
      auto image = load_image(in, impl_->t, project, node.image);
      if (image.empty()) {
        return fail(ec::damaged, "image " + node.image.text() + " stands on one of project " +
                                     std::string{project} + " and is not in it");
      }
      rows.push_back(
          make_image_row(*image.view(), next_tag(in, impl_->t, node.image).value_or("")));
    }
    return make_frame<proto::ImageTree>([&](proto::ImageTree::Builder tree) {
      tree.setTruncated(walk.is_truncated);
      auto nodes = tree.initNodes(static_cast<unsigned>(rows.size()));
      for (unsigned i = 0; i < nodes.size(); ++i) {
        auto row = rows[i].view();
        nodes[i].setRow(*row);
        walk.nodes[i].parent.to(nodes[i].initParent());
        nodes[i].setDistance(walk.nodes[i].distance);
      }
    });
  });
}

} // namespace coppice::storage
