#include "storage/oci_manifest.hpp"

#include <cstdint>
#include <cstdlib>
#include <string_view>

// The JSON documents of an OCI layout, each parser on the same bytes.
// The oracle beside the sanitizers: what is accepted is within its limits, and a digest in it names
// a file inside blobs/sha256 and nothing else.

namespace {

namespace oci = coppice::storage::oci;

void check(const oci::descriptor& d) {
  const auto hex = oci::hex_of(d.digest);
  if (d.digest.size() != 71 || hex.size() != 64 || hex.find('/') != hex.npos) {
    std::abort();
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  if (auto index = oci::parse_index(text)) {
    for (const auto& entry : *index) {
      check(entry);
    }
  }
  if (auto manifest = oci::parse_manifest(text)) {
    check(manifest->config);
    for (const auto& layer : manifest->layers) {
      check(layer);
    }
    if (manifest->layers.size() > oci::layers_max) {
      std::abort();
    }
  }
  if (auto config = oci::parse_image_config(text)) {
    std::size_t bytes = 0;
    for (const auto& [name, value] : config->env) {
      bytes += name.size() + value.size();
      if (name.empty() || name.find('=') != name.npos || value.find('\0') != value.npos) {
        std::abort();
      }
    }
    if (bytes > oci::config_env_bytes_max) {
      std::abort();
    }
  }
  static_cast<void>(oci::check_layout_marker(text));
  return 0;
}
