#pragma once

#include "storage/layer_files.hpp"
#include "storage/layer_path.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace coppice::storage {

/// What the layers of an image add up to: names and directories, without the files' content.
///
/// Problem: layers are read once, bottom to top, from streams that cannot be rewound; a later entry
/// may replace, hide or hard-link any earlier one, and their order within a layer is the archive's.
/// So content goes to the disk as it comes, while the names live here until all layers are in.
///
/// Rules, as overlay file systems stack layers:
///  - a whiteout hides only what lower layers brought, wherever in its own layer it stands;
///  - a later entry replaces an earlier one of the same name, with everything below it, except that
///    a directory over a directory only brings new attributes;
///  - no symbolic link is ever followed: where an entry's path leads through something that is not
///    a directory, a lower layer's is replaced by a directory, the same layer's is refused;
///  - directories that no entry describes are 0755 root;
///  - a hard link whose target is still missing waits until the end of its layer.
///
/// Guarantee: bounded by the number of names given to the constructor; every operation is
/// logarithmic but for hiding, which looks at a name at most once a layer. `on_unreferenced` is
/// called once for each file that has lost its last name. Owner: one thread.
class layer_tree {
public:
  struct directory;

  /// One name: a directory, or a file by the number that the sink gave it.
  struct node {
    std::uint32_t layer = 0;
    file_reference file;
    std::unique_ptr<directory> folder; ///< null: a file
  };

  struct directory {
    file_attributes attributes;
    std::map<std::string, node, std::less<>> children;
    std::uint32_t purged_in = 0; ///< the layer that has no need to hide anything here any more
  };

  using unreferenced = std::function<result<void>(std::uint32_t file)>;

  layer_tree(std::uint64_t names_max, unreferenced on_unreferenced);

  void begin_layer();

  /// No components: attributes of the root.
  result<void> put_directory(const path_components& path, file_attributes attributes);
  /// Takes over the only reference to `file`.
  result<void> put_file(const path_components& path, file_reference file);
  result<void> put_link(const path_components& path, const path_components& target);
  result<void> hide(const path_components& path);
  result<void> hide_content(const path_components& path);

  /// damaged: hard links without a target, one is named.
  result<void> end_layer();

  const directory& root() const {
    return *root_.folder;
  }

  /// How many names a file has.
  std::uint32_t links_of(std::uint32_t file) const;

private:
  struct waiting_link {
    path_components path;
    path_components target;
  };

  result<directory*> parent_of(const path_components& path);
  node* find(const path_components& path);
  result<node*> place(const path_components& path);
  result<void> link(const path_components& path, file_reference file);
  result<void> release(node& name);
  result<void> hide_lower(directory& folder);
  result<void> count_name();
  node make_directory();

  std::uint64_t names_max_;
  std::uint64_t names_ = 0;
  unreferenced on_unreferenced_;
  std::uint32_t layer_ = 0;
  node root_;
  std::unordered_map<std::uint32_t, std::uint32_t> extra_links_; ///< names beyond a file's first
  std::vector<waiting_link> waiting_;
};

} // namespace coppice::storage
