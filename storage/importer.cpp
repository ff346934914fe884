#include "storage/importer.hpp"

#include "storage/error.hpp"
#include "storage/ext4_builder.hpp"
#include "storage/layer_reader.hpp"
#include "storage/layer_tree.hpp"
#include "storage/oci_blob.hpp"
#include "storage/oci_layout.hpp"
#include "storage/qcow2/writer.hpp"

#include <system_error>

namespace coppice::storage {

namespace {

/// The raw disk beside the result, gone when the import ends, however it ends.
class scratch_file {
public:
  explicit scratch_file(std::filesystem::path path) : path_{std::move(path)} {
    // nop
  }
  ~scratch_file() {
    std::error_code ignored; // removed at the next start of the store otherwise
    std::filesystem::remove(path_, ignored);
  }
  scratch_file(const scratch_file&) = delete;
  scratch_file& operator=(const scratch_file&) = delete;

  const std::filesystem::path& path() const {
    return path_;
  }

private:
  std::filesystem::path path_;
};

result<void> add_layer(const std::filesystem::path& layout, const oci::descriptor& layer,
                       layer_tree& tree, ext4_builder& builder, layer_budget& budget) {
  auto blob = oci::blob::open(layout, layer);
  if (!blob) {
    return blob.error();
  }
  auto applied = apply_layer(**blob, tree, builder, budget);
  // A blob that is not what it should be explains any trouble that its bytes made.
  if (applied || applied.error().code == ec::damaged) {
    if (auto verified = (*blob)->verify(); !verified) {
      return verified;
    }
  }
  return applied;
}

result<void> add_layers(const std::filesystem::path& layout, const oci::manifest& manifest,
                        layer_tree& tree, ext4_builder& builder, layer_budget& budget) {
  const auto count = manifest.layers.size();
  for (std::size_t i = 0; i < count; ++i) {
    const auto& layer = manifest.layers[i];
    if (auto added = add_layer(layout, layer, tree, builder, budget); !added) {
      return failure{added.error().code, "layer " + std::to_string(i + 1) + " of " +
                                             std::to_string(count) + " (" + layer.digest +
                                             "): " + added.error().text};
    }
  }
  return {};
}

frame<proto::ImageConfig> config_frame(const oci::image_config& config) {
  return make_frame<proto::ImageConfig>([&](auto root) {
    auto env = root.initEnv(static_cast<unsigned>(config.env.size()));
    for (unsigned i = 0; i < env.size(); ++i) {
      env[i].setName(config.env[i].first);
      env[i].setValue(config.env[i].second);
    }
    root.setWorkingDir(config.working_dir);
    root.setUser(config.user);
  });
}

} // namespace

result<imported> import_oci_layout(const std::filesystem::path& layout,
                                   const std::filesystem::path& out, const import_limits& limits) {
  auto image = oci::choose_image(layout);
  if (!image) {
    return image.error();
  }
  const scratch_file raw{out.string() + ".raw"};
  layer_budget budget{limits.content_bytes_max, limits.entries_max};
  {
    auto builder = ext4_builder::create(raw.path());
    if (!builder) {
      return builder.error();
    }
    layer_tree tree{limits.entries_max, [&](std::uint32_t file) {
                      return (*builder)->remove(file);
                    }};
    if (auto added = add_layers(layout, image->manifest, tree, **builder, budget); !added) {
      return added.error();
    }
    if (auto finished = (*builder)->finish(tree); !finished) {
      return finished.error();
    }
  }
  if (auto written = qcow2::write_from_raw(raw.path(), out); !written) {
    return written.error();
  }
  return imported{config_frame(image->config), image->digest, budget.entries};
}

result<std::string> source_digest_of(const std::filesystem::path& layout) {
  auto image = oci::choose_image(layout);
  if (!image) {
    return image.error();
  }
  return image->digest;
}

} // namespace coppice::storage
