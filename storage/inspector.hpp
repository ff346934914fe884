#pragma once

#include "protocol/frame.hpp"
#include "protocol/inspect.capnp.h"
#include "protocol/result.hpp"
#include "storage/block_source.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace coppice::storage {

/// Reads the ext4 of an image without mounting it (libext2fs over a block_source).
/// The file system was written by a hostile guest: this runs in a worker process.
/// Paths are absolute, resolved inside the image; `..` and symbolic links never leave its root.
class inspector {
public:
  static result<std::unique_ptr<inspector>> open(std::unique_ptr<block_source> source);

  ~inspector();
  inspector(const inspector&) = delete;
  inspector& operator=(const inspector&) = delete;

  /// Opens a directory for listing. not_found; wrong_type: not a directory; damaged.
  result<void> open_directory(const std::string& path);
  /// The next entries (without . and ..), at most `entries_max`; empty at the end.
  result<frame<proto::InspectAnswer>> next_entries(std::size_t entries_max);

  /// Opens a regular file (symbolic links followed) and gives its size. wrong_type: a directory or
  /// special file.
  result<std::uint64_t> open_file(const std::string& path);
  /// The next bytes; empty at the end.
  result<std::vector<std::byte>> next_bytes(std::size_t bytes_max);

private:
  struct impl;
  explicit inspector(std::unique_ptr<impl> state);
  std::unique_ptr<impl> impl_;
};

/// Serves one inspect session on a connected socket (protocol/inspect.capnp): one InspectWork,
/// then an answer for each InspectMore until the end or until the peer closes. Returns when done.
result<void> serve_inspect(int socket, std::unique_ptr<block_source> source);

} // namespace coppice::storage
