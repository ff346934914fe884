#pragma once

#include "protocol/result.hpp"
#include "storage/inspector_ext4.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

namespace coppice::storage::inspection {

/// A path with "." and empty components left out and ".." taken back, as text: relative to the
/// image's root, without a slash at either end. Empty: the root.
std::string lexical_path(std::string_view path);

struct walked {
  std::string path; ///< relative to the image's root
  file_inode inode;
};

/// Everything below a path, each directory before what is in it, names in the order of their bytes.
///
/// Problem: the tree was made by a hostile guest. A directory may contain itself, be in a thousand
/// places, or hold millions of names.
/// Guarantee: no directory is entered twice (that is `damaged`: no kernel makes such a tree); the
/// names held for sorting take `sorted_bytes_max` together, directories that do not fit come in the
/// order of the disk, which is the same in every walk; paths beyond `path_bytes_limit` are
/// `damaged`. The file system outlives it.
class tree_walk {
public:
  static constexpr std::size_t sorted_bytes_max = 64u << 20;
  static constexpr std::size_t path_bytes_limit = 16384;

  /// `path`: how the beginning is called, in the form of lexical_path; `inode`: what it is.
  tree_walk(file_system& fs, std::string path, file_inode inode);
  ~tree_walk();
  tree_walk(const tree_walk&) = delete;
  tree_walk& operator=(const tree_walk&) = delete;

  /// The next one, the beginning first; absent at the end.
  result<std::optional<walked>> next();

  /// Leaves out what is in the directory that came last.
  void skip() {
    entering_.reset();
  }

  /// Every directory entered so far was sorted.
  bool is_sorted() const {
    return is_sorted_;
  }

private:
  struct level;

  result<void> enter(const walked& directory);
  result<std::optional<name_entry>> next_name();

  file_system& fs_;
  std::optional<walked> first_;
  std::optional<walked> entering_; ///< the directory that came last
  std::vector<std::unique_ptr<level>> levels_;
  std::unordered_set<std::uint32_t> entered_;
  std::size_t sorted_bytes_ = 0;
  bool is_sorted_ = true;
};

} // namespace coppice::storage::inspection
