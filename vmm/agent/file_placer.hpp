#pragma once

#include "protocol/types.capnp.h"
#include "vmm/agent/descriptor.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace coppice::agent {

/// Writes the uploaded files of a run into the image, from the chunks that the host sends.
///
/// Guarantee: nothing outside the image is touched, whatever links it holds; only regular files are
/// written; owner and mode are set before the process can see the content as its own.
/// Owner: the run, whose root folder must stay open.
class file_placer {
public:
  file_placer() = default;
  file_placer(int root, capnp::List<proto::FilePlacement>::Reader files);

  /// Chunks come in order, file by file; an empty file has one empty chunk. EPROTO: they do not.
  result<void> take(std::uint32_t index, std::span<const unsigned char> data);

  bool is_complete() const {
    return next_ == files_.size();
  }

private:
  struct placement {
    std::string path;
    std::uint64_t size_bytes;
    uid_t uid;
    gid_t gid;
    mode_t mode;
  };

  result<void> open(const placement& file);

  int root_ = -1;
  std::vector<placement> files_;
  std::size_t next_ = 0;
  descriptor current_;
  std::uint64_t written_bytes_ = 0;
};

} // namespace coppice::agent
