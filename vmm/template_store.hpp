#pragma once

#include "protocol/result.hpp"
#include "vmm/template.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace coppice::vmm {

/// Templates kept over restarts: one file for each key in a folder of their own.
///
/// Problem: a template is worth seconds of a processor, but a damaged one would damage every run.
/// Guarantee: what `load` gives is byte for byte what `save` was given: the whole file is covered
/// by a SHA-256, and it is not used if it belongs to another user or others may write it. A crash
/// leaves the old file, the new one, or none. Files are of mode 0600.
///
/// Blocks (some 100 MB are read or written): not for an actor's thread. One at a time for a folder.
class template_store {
public:
  struct limits {
    std::uint64_t bytes_max;          ///< of all files
    std::uint64_t free_bytes_min = 0; ///< that a file must leave to others on the file system
  };

  /// Makes the folder (0700) and removes what a crash has left. io.
  static result<template_store> open(std::filesystem::path folder, limits within);

  struct loaded {
    std::shared_ptr<const vm_template> found; ///< empty: to be built
    std::string refused; ///< a file was there and is removed: why. One line for the log
  };

  /// Never fails: what cannot be used is to be built anew.
  loaded load(const template_ingredients& ingredients);

  /// Durable when it returns. Other files go, those used longest ago first, until all fit in
  /// `bytes_max`. io: no space, or beyond the limits; nothing has changed then.
  result<void> save(const vm_template& made);

  /// Removes all but these.
  void keep_only(std::span<const sha256_digest> keys);

  /// Of all files.
  std::uint64_t bytes() const;

private:
  template_store(std::filesystem::path folder, limits within)
      : folder_{std::move(folder)}, limits_{within} {}

  result<void> check_room(const vm_template& made) const;

  std::filesystem::path folder_;
  limits limits_;
};

} // namespace coppice::vmm
