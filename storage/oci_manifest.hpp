#pragma once

#include "protocol/result.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// The JSON documents of an OCI layout (image-spec v1) and their Docker schema 2 twins.
///
/// Problem: they come from a registry or from a folder that somebody else wrote.
/// Guarantee: what is returned is within the limits below and every digest in it is well formed;
/// unknown members are ignored. unsupported: valid, but nothing that we import; damaged: not such a
/// document; too_large: beyond a limit. Pure functions, any thread.
namespace coppice::storage::oci {

/// A manifest of 10^3 layers or an index of many platforms is some hundred kilobytes.
inline constexpr std::size_t document_bytes_max = 4u << 20;
/// Overlay drivers stop at 128 layers; buildpacks come near.
inline constexpr std::size_t layers_max = 1024;
inline constexpr std::size_t index_entries_max = 4096;
/// The environment travels to the guest in one frame (limits::channel_frame_bytes_max).
inline constexpr std::size_t config_env_bytes_max = 256u << 10;
inline constexpr std::size_t config_field_bytes_max = 4096;

struct descriptor {
  std::string media_type;
  std::string digest; ///< sha256: and 64 lower-case hex digits
  std::uint64_t size_bytes = 0;
  bool has_platform = false;
  std::string os;
  std::string architecture;
  std::string variant;

  bool is_index() const;
  bool is_manifest() const;
};

struct manifest {
  descriptor config;
  std::vector<descriptor> layers; ///< lowest first
};

struct image_config {
  std::string os;
  std::string architecture;
  std::vector<std::pair<std::string, std::string>> env;
  std::string working_dir;
  std::string user;
};

/// The entries of an image index, of any media type.
result<std::vector<descriptor>> parse_index(std::string_view json);

/// Every layer is a tar, a tar+gzip or a tar+zstd.
result<manifest> parse_manifest(std::string_view json);

result<image_config> parse_image_config(std::string_view json);

/// The `oci-layout` file of a layout folder: version 1 of the layout.
result<void> check_layout_marker(std::string_view json);

/// The file name of a blob below blobs/sha256: the digest without its algorithm.
std::string_view hex_of(const std::string& digest);

} // namespace coppice::storage::oci
