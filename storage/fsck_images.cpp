#include "storage/fsck_images.hpp"

#include "storage/disk/reclaim.hpp"
#include "storage/error.hpp"
#include "storage/qcow2/byte_source.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <unordered_set>
#include <utility>

namespace coppice::storage {

namespace {

constexpr std::size_t stored_bytes_max = 64u << 20;
constexpr std::size_t made_bytes_max = 64u << 20;

/// A longer chain of deleted images is taken for one that leads back to itself.
constexpr std::size_t chain_max = 1u << 20;

std::string place_text(const block_index::run& run) {
  return run.file
             ? "cluster " + std::to_string(run.file_cluster) + " of " + run.file->text() + ".qcow2"
             : "zeros";
}

/// The first cluster of the disk where two indexes differ, told; nothing: they say the same.
std::optional<std::string> difference(const block_index& stored, const block_index& made) {
  const auto end = std::max(stored.end(), made.end());
  for (cluster_number at = 0; at < end;) {
    const auto left = stored.find(at, end - at);
    const auto right = made.find(at, left.count);
    const bool is_same = left.file && right.file
                             ? *left.file == *right.file && left.file_cluster == right.file_cluster
                             : left.file == right.file;
    if (!is_same) {
      return "for the disk's bytes at " + std::to_string(std::uint64_t{at} * cluster_bytes) +
             " its block index names " + place_text(left) + ", its files " + place_text(right);
    }
    at += right.count;
  }
  return std::nullopt;
}

/// The same for what is a failure of looking and not of what is looked at.
bool is_of_content(const failure& why) {
  return why.code == ec::damaged || why.code == ec::unsupported || why.code == ec::too_large ||
         why.code == ec::not_found;
}

std::uint64_t data_bytes(const std::vector<own_extent>& own) {
  std::uint64_t clusters = 0;
  for (const auto& e : own) {
    clusters += e.file == own_extent::zeros ? 0 : e.count;
  }
  return clusters * cluster_bytes;
}

file_family family_of(const catalog& records, index_cache& indexes) {
  return {[&records](const uuid& image) -> result<std::vector<uuid>> {
            std::vector<uuid> all;
            for (uuid after;;) {
              auto page = records.list_child_files(image, after);
              if (!page || page->empty()) {
                return page ? result<std::vector<uuid>>{std::move(all)} : page;
              }
              all.insert(all.end(), page->begin(), page->end());
              after = page->back();
            }
          },
          [&records](const uuid& image) { return records.has_image(image); },
          [&indexes](const uuid& image) {
            return indexes.get(image);
          }};
}

} // namespace

image_checker::image_checker(const catalog& records, std::filesystem::path images, bool scrub)
    : records_{records}, images_{std::move(images)}, scrub_{scrub},
      stored_{[this](const uuid& image) { return records_.get_index(image); }, stored_bytes_max},
      made_{[](const uuid& image) -> result<frame<proto::ImageIndex>> {
              return fail(ec::not_found, "no index was made of image " + image.text());
            },
            made_bytes_max} {}

std::filesystem::path image_checker::file_of(const uuid& image) const {
  return images_ / (image.text() + ".qcow2");
}

result<image_checker::findings> image_checker::check(const catalog::file_row& row) {
  findings out;
  check_place(row, out);
  const auto path = file_of(row.image);
  auto bytes = qcow2::open_bytes(path);
  if (!bytes) {
    if (!is_of_content(bytes.error())) {
      return bytes.error();
    }
    out.problems.push_back(bytes.error().code == ec::not_found
                               ? path.string() + ": missing, though the catalog has " +
                                     (row.is_live ? "its image" : "images that stand on it")
                               : bytes.error().text);
    return out;
  }
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0) {
    out.allocated_bytes = static_cast<std::uint64_t>(status.st_blocks) * 512;
    if ((status.st_mode & 07777) != 0400) {
      out.problems.push_back(path.string() + ": its mode allows more than its owner to read it");
    }
  }
  auto content = qcow2::read_sealed(**bytes);
  if (!content) {
    if (!is_of_content(content.error())) {
      return content.error();
    }
    out.problems.push_back(content.error().text);
    return out;
  }
  if (content->parent.value_or(uuid{}) != row.parent) {
    auto name = [](const uuid& id) {
      return id ? id.text() + ".qcow2" : std::string{"none"};
    };
    out.problems.push_back(path.string() + ": its header names the backing file " +
                           name(content->parent.value_or(uuid{})) + ", the catalog " +
                           name(row.parent));
    return out;
  }
  if (auto done = check_index(row, *content, out); !done) {
    return done.error();
  }
  if (auto done = scrub_ ? check_data(row, **bytes, *content, out) : result<void>{}; !done) {
    return done.error();
  }
  return out;
}

/// What the catalog's tables say of each other.
void image_checker::check_place(const catalog::file_row& row, findings& out) const {
  const auto name = "catalog: the file of image " + row.image.text();
  if (row.is_live == row.is_deleted) {
    out.problems.push_back(name + (row.is_live ? " is said to be that of a deleted image"
                                               : " belongs to no image, deleted or not"));
  }
  if (!row.parent) {
    return;
  }
  if (auto parent = records_.get_image_file(row.parent); !parent) {
    out.problems.push_back(name + ": " + parent.error().text + ", on which it stands");
  }
}

result<void> image_checker::check_index(const catalog::file_row& row,
                                        const qcow2::sealed_content& content, findings& out) {
  if (!row.is_live) {
    return {}; // what it still has is seen through the indexes of others
  }
  const auto name = "catalog: the block index of image " + row.image.text();
  auto stored = stored_.get(row.image);
  if (!stored) {
    if (!is_of_content(stored.error())) {
      return stored.error();
    }
    out.problems.push_back(name + ": " + stored.error().text);
    return {};
  }
  index_pointer made;
  if (row.parent) {
    auto below = index_of(row.parent);
    if (!below) {
      if (!is_of_content(below.error())) {
        return below.error();
      }
      out.problems.push_back(name + " cannot be proved: " + below.error().text);
      return {};
    }
    made = block_index::of_child(std::move(*below), row.image, content.own);
  } else {
    made = block_index::of_import(row.image, content.own);
  }
  // The same level on the same checkpoint is one comparison of bytes; else cluster by cluster.
  if (made->checkpoint() == (*stored)->checkpoint() && made->encode() == (*stored)->encode()) {
    return {};
  }
  if (auto where = difference(**stored, *made)) {
    out.problems.push_back(name + ": " + *where);
  }
  return {};
}

/// Of an image, live or deleted: the catalog's, or made of its file and what is below. A chain may
/// be a thousand deep, hence no recursion.
result<image_checker::index_pointer> image_checker::index_of(uuid image) {
  std::vector<uuid> ahead;
  index_pointer index;
  for (auto at = image; !index;) {
    if (auto known = made_.get(at)) {
      index = *known;
    } else if (auto stored = stored_.get(at)) {
      index = *stored;
    } else if (!is_of_content(stored.error())) {
      return stored.error();
    } else {
      ahead.push_back(at);
      auto row = records_.get_image_file(at);
      if (!row) {
        return row.error();
      }
      if (!row->parent) {
        break;
      }
      if (ahead.size() > chain_max) {
        return fail(ec::damaged, "the file of image " + image.text() + " stands on itself");
      }
      at = row->parent;
    }
  }
  for (; !ahead.empty(); ahead.pop_back()) {
    auto bytes = qcow2::open_bytes(file_of(ahead.back()));
    if (!bytes) {
      return bytes.error();
    }
    auto content = qcow2::read_sealed(**bytes);
    if (!content) {
      return content.error();
    }
    index = index ? block_index::of_child(std::move(index), ahead.back(), content->own)
                  : block_index::of_import(ahead.back(), content->own);
    made_.put(ahead.back(), index);
  }
  return index;
}

result<void> image_checker::check_data(const catalog::file_row& row,
                                       const qcow2::byte_source& bytes,
                                       const qcow2::sealed_content& content, findings& out) {
  std::vector<own_extent> punched;
  if (!row.is_live) {
    auto unseen = unseen_clusters(row.image, content.own, family_of(records_, stored_));
    if (!unseen) {
      if (!is_of_content(unseen.error()) && unseen.error().code != ec::conflict) {
        return unseen.error();
      }
      out.problems.push_back(bytes.name() + ": cannot tell which of its clusters are still seen: " +
                             unseen.error().text);
      return {};
    }
    punched = std::move(*unseen);
  }
  out.scrubbed_bytes = data_bytes(content.own) - data_bytes(punched);
  auto same = qcow2::verify_content(bytes, content, punched);
  if (!same) {
    if (!is_of_content(same.error())) {
      return same;
    }
    out.problems.push_back(same.error().text);
  }
  return {};
}

} // namespace coppice::storage
