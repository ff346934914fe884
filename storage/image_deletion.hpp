#pragma once

#include "protocol/uuid.hpp"

#include <cstdint>
#include <vector>

namespace coppice::storage {

/// What the deletion of an image did to files: the record goes first, the files after it.
struct image_deletion {
  std::vector<uuid> gone; ///< images whose files nothing needs any more, children first
  std::vector<uuid> dead; ///< deleted images whose files stay, of which less may be seen now
};

/// Whether the tags of an image may go with it.
enum class with_tags : std::uint8_t { no, yes };

} // namespace coppice::storage
