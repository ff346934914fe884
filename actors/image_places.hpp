#pragma once

#include "protocol/frame.hpp"
#include "protocol/inspect.capnp.h"
#include "protocol/messages.capnp.h"
#include "protocol/result.hpp"
#include "storage/disk/block_index.hpp"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

namespace coppice {

/// Turns places on an image's disk, as a reader process told them, into places in the store's
/// files.
///
/// Problem: the content of a large file need not pass through the process that parses the file
/// system, nor through any buffer of ours; but what that process says was written by a hostile
/// guest. So it may name the bytes of its own image's disk, and nothing else. (It may also give
/// bytes itself, a few in each answer, as the headers of an archive are: these tell only what it
/// knows, which is its image.)
/// Guarantee: every range lies inside the disk of that image, hence in files that its index names;
/// together they are no more than was announced. What was told is held until it is taken, no more
/// than one answer's.
class image_places {
public:
  /// `bytes`: what the parts must be together, their own data not counted; nothing: whatever they
  /// are.
  image_places(std::shared_ptr<const storage::block_index> index,
               std::optional<std::uint64_t> bytes)
      : index_{std::move(index)}, bytes_left_{bytes.value_or(UINT64_MAX)}, is_announced_{
                                                                               bytes.has_value()} {}

  /// Takes what the reader said over. damaged: it lies.
  result<void> add(capnp::List<proto::DiskPart>::Reader parts);

  bool empty() const {
    return parts_.empty();
  }
  /// All that was announced was told.
  bool may_end() const {
    return bytes_left_ == 0 || !is_announced_;
  }

  /// The next ranges, as many as a message holds well.
  frame<proto::InspectChunk> take();

private:
  struct part {
    std::string data;
    std::uint64_t offset_bytes = 0;
    std::uint64_t bytes = 0;
    bool is_zeros = false;
  };

  std::shared_ptr<const storage::block_index> index_;
  std::uint64_t bytes_left_;
  bool is_announced_;
  std::deque<part> parts_;
};

} // namespace coppice
