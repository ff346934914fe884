#pragma once

#include "storage/byte_input.hpp"
#include "storage/layer_files.hpp"
#include "storage/layer_tree.hpp"

#include <cstdint>

namespace coppice::storage {

/// What all layers of one import may cost together, and have cost.
struct layer_budget {
  std::uint64_t content_bytes_max = 0; ///< of the unpacked tars, headers and padding included
  std::uint64_t entries_max = 0;
  std::uint64_t content_bytes = 0;
  std::uint64_t entries = 0;
};

/// Reads one layer (tar, tar+gzip or tar+zstd, told from its bytes) and applies it to the tree; the
/// files' content goes to the sink. Names are taken as bytes, whatever the process's locale.
///
/// Problem: the archive is hostile. It is parsed by libarchive, in the worker process of the
/// import; nothing in it reaches a file of the host.
/// Failures name the entry. damaged: not a tar, or contradicts itself; too_large: beyond the
/// budget; unsupported: what ext4 cannot hold. Owner: one thread.
result<void> apply_layer(byte_input& input, layer_tree& tree, file_sink& sink,
                         layer_budget& budget);

} // namespace coppice::storage
