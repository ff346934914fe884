#pragma once

#include "storage/oci_manifest.hpp"

#include <filesystem>
#include <string>

/// Choosing the image in an OCI layout folder.
namespace coppice::storage::oci {

struct chosen_image {
  std::string digest; ///< of the manifest
  oci::manifest manifest;
  image_config config;
};

/// The first linux/amd64 image that index.json leads to, through at most `index_depth_max` nested
/// indexes; one without a variant before one with. Where no platform is given the image's own
/// config decides. Documents are verified against their digests.
/// unsupported: there is none, and the text lists what there is.
result<chosen_image> choose_image(const std::filesystem::path& layout);

inline constexpr int index_depth_max = 4;
/// Documents read while choosing: bounds a layout whose indexes name each other many times.
inline constexpr int documents_max = 256;

} // namespace coppice::storage::oci
