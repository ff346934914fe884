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

struct grep_query;

namespace inspection {
class file_system;
}

/// What is told piece by piece, each when it is asked for. Lives as long as its inspector at most.
class answer_source {
public:
  virtual ~answer_source() = default;
  /// The next piece; the one that says `last` is the end. `content_bytes_max`: of content that is
  /// told by where it lies; 0: a usual amount.
  virtual result<frame<proto::InspectAnswer>> next(std::uint64_t content_bytes_max) = 0;
};

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

  /// Where the bytes of a regular file lie on the disk: of `bytes` from `offset_bytes`, as far as
  /// there are. `size_bytes`: of the whole file. As open_file.
  struct file_places {
    std::uint64_t size_bytes = 0;
    std::unique_ptr<answer_source> parts;
  };
  result<file_places> places(const std::string& path, std::uint64_t offset_bytes,
                             std::uint64_t bytes);

  /// A tar stream of the path and everything below it, names relative to the root as the path says
  /// them; links in the path are followed. Content by where it lies. not_found; damaged.
  result<std::unique_ptr<answer_source>> archive(const std::string& path);

  /// The lines that match (inspector_grep.hpp).
  result<std::unique_ptr<answer_source>> grep(const grep_query& query);

  /// The file system itself, for what looks at two of them.
  inspection::file_system& files() const;

private:
  struct impl;
  explicit inspector(std::unique_ptr<impl> state);
  std::unique_ptr<impl> impl_;
};

/// Serves inspect sessions on a connected socket (protocol/inspect.capnp), one after the other,
/// until the peer closes: an answer for each order. A failure ends its session, not the service; a
/// malformed message ends it. `newer`: the disk with which the other is compared, if any.
result<void> serve_inspect(int socket, std::unique_ptr<block_source> source,
                           std::unique_ptr<block_source> newer = nullptr);

} // namespace coppice::storage
