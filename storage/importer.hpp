#pragma once

#include "protocol/frame.hpp"
#include "protocol/result.hpp"
#include "protocol/types.capnp.h"

#include <cstdint>
#include <filesystem>
#include <string>

namespace coppice::storage {

/// Limits of one import: a hostile archive may hold 10^7 entries or expand a thousandfold.
struct import_limits {
  std::uint64_t content_bytes_max = 32ull << 30;
  std::uint64_t entries_max = 4'000'000;
};

struct imported {
  frame<proto::ImageConfig> config;
  std::string source_digest; ///< sha256:… of the manifest
  std::uint64_t entries = 0;
};

/// Merges the layers of the linux/amd64 image in an OCI layout folder and writes them as ext4 (no
/// journal, limits::disk_bytes, storage.md's options) into a new qcow2 file `out` without backing
/// file. Modes, owners, mtimes, hard links, symbolic links, devices, fifos and xattrs are kept;
/// whiteouts (`.wh.NAME`, `.wh..wh..opq`) hide what is below them. Names that leave the root are
/// refused. Parses hostile bytes: runs in a worker process. Failures say which layer and entry.
/// unsupported: no linux/amd64 manifest, or a layer type that we do not know; conflict: `out`
/// exists. While it runs, a sparse raw disk of the content's size lies beside `out`, as `out`.raw.
result<imported> import_oci_layout(const std::filesystem::path& layout,
                                   const std::filesystem::path& out, const import_limits& limits);

/// The digest of the linux/amd64 manifest in the layout, without reading its layers.
result<std::string> source_digest_of(const std::filesystem::path& layout);

} // namespace coppice::storage
