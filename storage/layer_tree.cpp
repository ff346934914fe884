#include "storage/layer_tree.hpp"

#include "storage/error.hpp"
#include "storage/printable.hpp"

#include <algorithm>

namespace coppice::storage {

namespace {

/// Hard links before their targets are rare; this many are an attack on our memory.
constexpr std::size_t waiting_links_max = 65'536;

/// ext4 and its kernel hold 65,000; beyond, the link count would lie.
constexpr std::uint32_t links_max = 65'000;

std::string text_of(const path_components& path, std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) {
    out += (i == 0 ? "" : "/") + path[i];
  }
  return out;
}

std::string text_of(const path_components& path) {
  return text_of(path, path.size());
}

} // namespace

layer_tree::layer_tree(std::uint64_t names_max, unreferenced on_unreferenced)
    : names_max_{names_max}, on_unreferenced_{std::move(on_unreferenced)}, root_{make_directory()} {
  // nop
}

layer_tree::node layer_tree::make_directory() {
  node out;
  out.layer = layer_;
  out.folder = std::make_unique<directory>();
  out.folder->purged_in = layer_;
  return out;
}

void layer_tree::begin_layer() {
  ++layer_;
}

std::uint32_t layer_tree::links_of(std::uint32_t file) const {
  auto found = extra_links_.find(file);
  return found == extra_links_.end() ? 1 : found->second + 1;
}

result<void> layer_tree::count_name() {
  if (++names_ > names_max_) {
    return fail(ec::too_large, "more than " + std::to_string(names_max_) + " names in the image");
  }
  return {};
}

// -- finding names
// ---------------------------------------------------------------------------------

layer_tree::node* layer_tree::find(const path_components& path) {
  auto* current = &root_;
  for (const auto& name : path) {
    if (!current->folder) {
      return nullptr;
    }
    auto found = current->folder->children.find(name);
    if (found == current->folder->children.end()) {
      return nullptr;
    }
    current = &found->second;
  }
  return current;
}

result<layer_tree::directory*> layer_tree::parent_of(const path_components& path) {
  auto* folder = root_.folder.get();
  for (std::size_t i = 0; i + 1 < path.size(); ++i) {
    auto [place, is_new] = folder->children.try_emplace(path[i]);
    auto& name = place->second;
    if (is_new) {
      if (auto counted = count_name(); !counted) {
        return counted.error();
      }
      name = make_directory();
    } else if (!name.folder) {
      if (name.layer == layer_) {
        return fail(ec::damaged,
                    printable(text_of(path, i + 1)) +
                        " is not a directory in the same layer; links are not followed");
      }
      if (auto released = release(name); !released) {
        return released.error();
      }
      name = make_directory();
    }
    folder = name.folder.get();
  }
  return folder;
}

/// The node of that name, emptied of what was there.
result<layer_tree::node*> layer_tree::place(const path_components& path) {
  auto parent = parent_of(path);
  if (!parent) {
    return parent.error();
  }
  auto [place, is_new] = (*parent)->children.try_emplace(path.back());
  auto& name = place->second;
  if (is_new) {
    if (auto counted = count_name(); !counted) {
      return counted.error();
    }
  } else if (auto released = release(name); !released) {
    return released.error();
  }
  name.layer = layer_;
  return &name;
}

// -- adding names
// ----------------------------------------------------------------------------------

result<void> layer_tree::put_directory(const path_components& path, file_attributes attributes) {
  if (path.empty()) {
    root_.folder->attributes = std::move(attributes);
    return {};
  }
  auto parent = parent_of(path);
  if (!parent) {
    return parent.error();
  }
  auto found = (*parent)->children.find(path.back());
  if (found != (*parent)->children.end() && found->second.folder) {
    found->second.layer = layer_;
    found->second.folder->attributes = std::move(attributes);
    return {};
  }
  auto name = place(path);
  if (!name) {
    return name.error();
  }
  **name = make_directory();
  (*name)->folder->attributes = std::move(attributes);
  return {};
}

result<void> layer_tree::put_file(const path_components& path, file_reference file) {
  if (path.empty()) {
    return fail(ec::damaged, "the root is not a directory");
  }
  auto name = place(path);
  if (!name) {
    return name.error();
  }
  (*name)->file = file;
  return {};
}

result<void> layer_tree::put_link(const path_components& path, const path_components& target) {
  if (path.empty()) {
    return fail(ec::damaged, "the root is a hard link");
  }
  if (path == target) {
    return fail(ec::damaged, "hard link to itself");
  }
  const auto* found = find(target);
  if (found == nullptr) {
    if (waiting_.size() >= waiting_links_max) {
      return fail(ec::too_large, "more than 65536 hard links before their targets");
    }
    waiting_.push_back({path, target});
    return {};
  }
  if (found->folder) {
    return fail(ec::damaged, "hard link to the directory " + printable(text_of(target)));
  }
  return link(path, found->file);
}

result<void> layer_tree::link(const path_components& path, file_reference file) {
  // Counted first: placing the new name may drop the old one.
  auto& extra = extra_links_[file.number];
  if (++extra >= links_max) {
    return fail(ec::too_large, "a file with more than 65000 names");
  }
  auto name = place(path);
  if (!name) {
    return name.error();
  }
  (*name)->file = file;
  return {};
}

// -- removing names
// --------------------------------------------------------------------------------

/// Drops what a name stands for, with everything below it. The name itself stays, empty.
result<void> layer_tree::release(node& name) {
  if (name.folder) {
    for (auto& [child_name, child] : name.folder->children) {
      if (auto released = release(child); !released) {
        return released;
      }
      --names_;
    }
    name.folder.reset();
    return {};
  }
  auto extra = extra_links_.find(name.file.number);
  if (extra == extra_links_.end()) {
    return on_unreferenced_(name.file.number);
  }
  if (--extra->second == 0) {
    extra_links_.erase(extra);
  }
  return {};
}

/// Removes what lower layers brought into a directory.
result<void> layer_tree::hide_lower(directory& folder) {
  if (folder.purged_in == layer_) {
    return {};
  }
  folder.purged_in = layer_;
  for (auto place = folder.children.begin(); place != folder.children.end();) {
    auto& name = place->second;
    if (name.folder) {
      if (auto hidden = hide_lower(*name.folder); !hidden) {
        return hidden;
      }
    }
    const bool is_lower = name.layer < layer_;
    if (is_lower && name.folder && !name.folder->children.empty()) {
      // This layer put something into it: it is now a directory that no entry describes.
      name.layer = layer_;
      name.folder->attributes = {};
      ++place;
    } else if (is_lower) {
      if (auto released = release(name); !released) {
        return released;
      }
      place = folder.children.erase(place);
      --names_;
    } else {
      ++place;
    }
  }
  return {};
}

result<void> layer_tree::hide(const path_components& path) {
  const path_components parent_path{path.begin(), path.end() - 1};
  auto* parent = find(parent_path);
  if (parent == nullptr || !parent->folder) {
    return {};
  }
  auto& children = parent->folder->children;
  auto place = children.find(path.back());
  if (place == children.end()) {
    return {};
  }
  auto& name = place->second;
  if (name.folder) {
    if (auto hidden = hide_lower(*name.folder); !hidden) {
      return hidden;
    }
  }
  if (name.layer == layer_) {
    return {};
  }
  if (name.folder && !name.folder->children.empty()) {
    name.layer = layer_;
    name.folder->attributes = {};
    return {};
  }
  if (auto released = release(name); !released) {
    return released;
  }
  children.erase(place);
  --names_;
  return {};
}

result<void> layer_tree::hide_content(const path_components& path) {
  auto* name = find(path);
  return name != nullptr && name->folder ? hide_lower(*name->folder) : result<void>{};
}

// -- links that wait
// -------------------------------------------------------------------------------

result<void> layer_tree::end_layer() {
  auto links = std::exchange(waiting_, {});
  std::multimap<path_components, std::size_t> by_target;
  std::vector<std::size_t> ready;
  for (std::size_t i = 0; i < links.size(); ++i) {
    if (find(links[i].target) != nullptr) {
      ready.push_back(i);
    } else {
      by_target.emplace(links[i].target, i);
    }
  }
  std::size_t done = 0;
  while (done < ready.size()) {
    const auto& next = links[ready[done++]];
    if (auto linked = put_link(next.path, next.target); !linked) {
      return linked;
    }
    auto [first, last] = by_target.equal_range(next.path);
    for (auto waiting = first; waiting != last; ++waiting) {
      ready.push_back(waiting->second);
    }
    by_target.erase(first, last);
  }
  // Those that never became ready, or whose target was replaced by another of them.
  for (const auto& [target, index] : by_target) {
    waiting_.push_back(links[index]);
  }
  if (!waiting_.empty()) {
    const auto& lost = waiting_.front();
    return fail(ec::damaged, "hard link " + printable(text_of(lost.path)) + " to " +
                                 printable(text_of(lost.target)) + ", which is not in the image");
  }
  return {};
}

} // namespace coppice::storage
