#include "storage/retention.hpp"

#include "storage/error.hpp"
#include "storage/file.hpp"
#include "storage/qcow2/sealed_file.hpp"
#include "storage/reclaimer.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <unordered_map>
#include <utility>

namespace coppice::storage {

namespace {

/// Runs `each` on every image row of the catalog.
template <class Each>
result<void> for_each_image(const catalog& records, Each&& each) {
  for (uuid after;;) {
    auto page = records.walk_images(after);
    if (!page) {
      return page.error();
    }
    auto view = page->view();
    if (view->getRows().size() == 0) {
      return {};
    }
    for (auto row : view->getRows()) {
      after = uuid::from(row.getImage().getId());
      if (result<void> done = each(row); !done) {
        return done;
      }
    }
  }
}

/// The images that the policy names, by id or by a tag in any project.
result<std::unordered_set<uuid>> named_images(const catalog& records,
                                              const retention_policy& policy) {
  std::unordered_set<uuid> named;
  std::vector<std::string> tags;
  for (const auto& name : policy.keep) {
    if (auto id = uuid::parse(name)) {
      named.insert(*id);
    } else {
      tags.push_back(name);
    }
  }
  if (tags.empty()) {
    return named;
  }
  std::set<std::string> projects;
  auto walked = for_each_image(records, [&](proto::ImageRow::Reader row) -> result<void> {
    projects.emplace(row.getImage().getProject().cStr());
    return {};
  });
  if (!walked) {
    return walked.error();
  }
  for (const auto& project : projects) {
    for (const auto& tag : tags) {
      auto request = make_frame<proto::ResolveTag>([&](proto::ResolveTag::Builder to) {
        to.setProject(project);
        to.setTag(tag);
      });
      auto found = records.resolve_tag(*request.view());
      if (found) {
        named.insert(uuid::from(found->view()->getImage().getId()));
      } else if (found.error().code != ec::not_found) {
        return found.error();
      }
    }
  }
  return named;
}

/// How the files of images stand when some images are deleted.
class future {
public:
  future(const catalog& records, const std::unordered_set<uuid>& deleted)
      : records_{records}, deleted_{deleted} {}

  bool is_live(const uuid& image) const {
    return !deleted_.contains(image) && records_.has_image(image);
  }

  /// Whether a live image has the file in its chain.
  result<bool> is_needed(const uuid& image) {
    std::vector<visit> path;
    if (auto known = answer(image)) {
      return *known;
    }
    path.push_back({image, {}, 0});
    if (auto begun = list(path.back()); !begun) {
      return begun.error();
    }
    while (!path.empty()) {
      auto& top = path.back();
      if (needed_.contains(top.image) || top.next == top.children.size()) {
        const auto is_kept = needed_.try_emplace(top.image, false).first->second;
        path.pop_back();
        if (is_kept && !path.empty()) {
          needed_[path.back().image] = true;
        }
        continue;
      }
      const auto child = top.children[top.next++];
      if (auto known = answer(child)) {
        if (*known) {
          needed_[top.image] = true;
        }
        continue;
      }
      path.push_back({child, {}, 0});
      if (auto begun = list(path.back()); !begun) {
        return begun.error();
      }
    }
    return needed_.at(image);
  }

private:
  struct visit {
    uuid image;
    std::vector<uuid> children;
    std::size_t next = 0;
  };

  std::optional<bool> answer(const uuid& image) const {
    if (is_live(image)) {
      return true;
    }
    auto known = needed_.find(image);
    return known == needed_.end() ? std::nullopt : std::optional{known->second};
  }

  result<void> list(visit& of) const {
    for (;;) {
      auto page =
          records_.list_child_files(of.image, of.children.empty() ? uuid{} : of.children.back());
      if (!page) {
        return page.error();
      }
      if (page->empty()) {
        return {};
      }
      of.children.insert(of.children.end(), page->begin(), page->end());
    }
  }

  const catalog& records_;
  const std::unordered_set<uuid>& deleted_;
  std::unordered_map<uuid, bool> needed_; ///< of images that are not live
};

/// What the clusters take on disk; what is a hole already takes nothing.
std::uint64_t data_bytes(const file& in, const std::vector<own_extent>& clusters) {
  std::uint64_t sum = 0;
  for (const auto& run : clusters) {
    auto at = static_cast<off_t>(std::uint64_t{run.file} << cluster_bits);
    const auto end = at + static_cast<off_t>(std::uint64_t{run.count} << cluster_bits);
    while (at < end) {
      const auto data = ::lseek(in.fd(), at, SEEK_DATA);
      if (data < 0 || data >= end) {
        break;
      }
      const auto hole = ::lseek(in.fd(), data, SEEK_HOLE);
      const auto stop = hole < 0 ? end : std::min<off_t>(hole, end);
      sum += static_cast<std::uint64_t>(stop - data);
      at = stop;
    }
  }
  return sum;
}

result<void> add_file(const catalog& records, const std::filesystem::path& folder,
                      const uuid& image, future& after, index_cache& indexes,
                      reclaim_forecast& sum) {
  auto is_needed = after.is_needed(image);
  if (!is_needed) {
    return is_needed.error();
  }
  const auto path = folder / (image.text() + ".qcow2");
  auto opened = file::open(path, O_RDONLY);
  if (!opened) {
    // Somebody else was faster.
    return opened.error().code == ec::not_found ? result<void>{} : opened.error();
  }
  if (!*is_needed) {
    auto taken = opened->allocated_bytes();
    sum.files += 1;
    sum.file_bytes += taken ? *taken : 0;
    return {};
  }
  auto bytes = qcow2::open_bytes(path);
  if (!bytes) {
    return bytes.error();
  }
  auto content = qcow2::read_sealed(**bytes);
  if (!content) {
    return content.error();
  }
  auto family = family_in(records, indexes);
  family.is_live = [&after](const uuid& other) {
    return after.is_live(other);
  };
  auto unseen = unseen_clusters(image, content->own, family);
  if (!unseen) {
    return unseen.error();
  }
  const auto given_back = data_bytes(*opened, *unseen);
  sum.punched_files += given_back != 0 ? 1 : 0;
  sum.punched_bytes += given_back;
  return {};
}

} // namespace

std::string_view text_of(keeper why) {
  switch (why) {
  case keeper::named:
    return "named by gc.keep";
  case keeper::tagged:
    return "tagged";
  case keeper::in_use:
    return "in use";
  case keeper::young:
    return "younger than gc.keep_younger_than";
  case keeper::leaf:
    return "a leaf";
  case keeper::none:
    break;
  }
  return "kept by nothing";
}

result<void> judge_images(const catalog& records, const retention_policy& policy,
                          std::int64_t now_unix_ns, const std::function<void(image_fate)>& each) {
  auto named = named_images(records, policy);
  if (!named) {
    return named.error();
  }
  const auto young_since = now_unix_ns - std::chrono::nanoseconds{policy.keep_younger_than}.count();
  auto why = [&](proto::ImageRow::Reader row, const uuid& id) -> result<keeper> {
    if (named->contains(id)) {
      return keeper::named;
    }
    if (policy.keep_tagged && row.getTag().size() != 0) {
      return keeper::tagged;
    }
    if (records.is_in_use(id)) {
      return keeper::in_use;
    }
    if (policy.keep_younger_than.count() != 0 &&
        row.getImage().getCreatedAtUnixNs() > young_since) {
      return keeper::young;
    }
    if (policy.keep_leaves) {
      // A file is known only while a live image stands on it, so any child leads to one.
      auto children = records.list_child_files(id);
      if (!children) {
        return children.error();
      }
      if (children->empty()) {
        return keeper::leaf;
      }
    }
    return keeper::none;
  };
  return for_each_image(records, [&](proto::ImageRow::Reader row) -> result<void> {
    const auto image = row.getImage();
    const auto id = uuid::from(image.getId());
    auto reason = why(row, id);
    if (!reason) {
      return reason.error();
    }
    each({id, image.getProject().cStr(), row.getTag().cStr(), image.getDepth(),
          image.getSizeBytes(), *reason});
    return {};
  });
}

result<reclaim_forecast> forecast_reclaim(const catalog& records,
                                          const std::filesystem::path& folder,
                                          const std::unordered_set<uuid>& images) {
  future after{records, images};
  index_cache indexes{[&records](const uuid& image) { return records.get_index(image); },
                      64u << 20};
  reclaim_forecast sum;
  for (const auto& image : images) {
    if (auto done = add_file(records, folder, image, after, indexes, sum); !done) {
      return done.error();
    }
  }
  for (uuid last;;) {
    auto page = records.list_dead_files(last);
    if (!page) {
      return page.error();
    }
    if (page->empty()) {
      return sum;
    }
    for (const auto& image : *page) {
      if (auto done = add_file(records, folder, image, after, indexes, sum); !done) {
        return done.error();
      }
    }
    last = page->back();
  }
}

} // namespace coppice::storage
