#include "storage/oci_manifest.hpp"

#include "storage/error.hpp"
#include "storage/printable.hpp"

#include <boost/json.hpp>

#include <algorithm>
#include <array>

namespace json = boost::json;

namespace coppice::storage::oci {

namespace {

constexpr std::array index_types{
    std::string_view{"application/vnd.oci.image.index.v1+json"},
    std::string_view{"application/vnd.docker.distribution.manifest.list.v2+json"},
};

constexpr std::array manifest_types{
    std::string_view{"application/vnd.oci.image.manifest.v1+json"},
    std::string_view{"application/vnd.docker.distribution.manifest.v2+json"},
};

constexpr std::array config_types{
    std::string_view{"application/vnd.oci.image.config.v1+json"},
    std::string_view{"application/vnd.docker.container.image.v1+json"},
};

// The compression is told from the bytes: registries are known to mislabel it.
constexpr std::array layer_types{
    std::string_view{"application/vnd.oci.image.layer.v1.tar"},
    std::string_view{"application/vnd.oci.image.layer.v1.tar+gzip"},
    std::string_view{"application/vnd.oci.image.layer.v1.tar+zstd"},
    std::string_view{"application/vnd.oci.image.layer.nondistributable.v1.tar"},
    std::string_view{"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"},
    std::string_view{"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"},
    std::string_view{"application/vnd.docker.image.rootfs.diff.tar"},
    std::string_view{"application/vnd.docker.image.rootfs.diff.tar.gzip"},
    std::string_view{"application/vnd.docker.image.rootfs.diff.tar.zstd"},
};

template <std::size_t N>
bool is_one_of(std::string_view type, const std::array<std::string_view, N>& types) {
  return std::find(types.begin(), types.end(), type) != types.end();
}

failure damaged(std::string_view where, std::string_view what) {
  return fail(ec::damaged, std::string{where} + ": " + std::string{what});
}

result<json::object> parse_object(std::string_view text, std::string_view where) {
  if (text.size() > document_bytes_max) {
    return fail(ec::too_large, std::string{where} + " is larger than 4 MiB");
  }
  json::parse_options options;
  options.max_depth = 32;
  json::error_code error;
  auto value = json::parse({text.data(), text.size()}, error, json::storage_ptr{}, options);
  if (error) {
    return damaged(where, "not JSON: " + error.message());
  }
  if (!value.is_object()) {
    return damaged(where, "not a JSON object");
  }
  return std::move(value.get_object());
}

/// A string member; empty when absent or null.
result<std::string> text_of(const json::object& object, std::string_view name,
                            std::string_view where) {
  const auto* value = object.if_contains({name.data(), name.size()});
  if (value == nullptr || value->is_null()) {
    return std::string{};
  }
  const auto* text = value->if_string();
  if (text == nullptr) {
    return damaged(where, "\"" + std::string{name} + "\" is not a string");
  }
  if (text->size() > config_field_bytes_max) {
    return fail(ec::too_large,
                std::string{where} + ": \"" + std::string{name} + "\" is longer than 4096 bytes");
  }
  if (text->find('\0') != json::string::npos) {
    return damaged(where, "\"" + std::string{name} + "\" contains a zero byte");
  }
  return std::string{text->data(), text->size()};
}

result<std::uint64_t> size_of(const json::object& object, std::string_view where) {
  const auto* value = object.if_contains("size");
  if (value != nullptr && value->is_int64() && value->get_int64() >= 0) {
    return static_cast<std::uint64_t>(value->get_int64());
  }
  return damaged(where, "\"size\" is not a number of bytes");
}

result<std::string> digest_of(const json::object& object, std::string_view where) {
  auto digest = text_of(object, "digest", where);
  if (!digest) {
    return digest;
  }
  constexpr std::string_view prefix = "sha256:";
  auto hex = std::string_view{*digest};
  if (!hex.starts_with(prefix)) {
    return fail(ec::unsupported, std::string{where} + ": digest " + printable(*digest) +
                                     " is not sha256, the only algorithm that is checked");
  }
  hex.remove_prefix(prefix.size());
  auto is_hex = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  };
  if (hex.size() != 64 || !std::all_of(hex.begin(), hex.end(), is_hex)) {
    return damaged(where, "malformed digest " + printable(*digest));
  }
  return digest;
}

result<void> read_platform(const json::object& object, descriptor& out, std::string_view where) {
  const auto* value = object.if_contains("platform");
  if (value == nullptr || !value->is_object()) {
    return {};
  }
  const auto& platform = value->get_object();
  for (auto [field, name] : {std::pair{&out.os, "os"}, std::pair{&out.architecture, "architecture"},
                             std::pair{&out.variant, "variant"}}) {
    auto text = text_of(platform, name, where);
    if (!text) {
      return text.error();
    }
    *field = std::move(*text);
  }
  out.has_platform = true;
  return {};
}

result<descriptor> read_descriptor(const json::value& value, const std::string& where) {
  const auto* object = value.if_object();
  if (object == nullptr) {
    return damaged(where, "not a descriptor");
  }
  auto type = text_of(*object, "mediaType", where);
  auto digest = digest_of(*object, where);
  auto size = size_of(*object, where);
  if (!type) {
    return type.error();
  }
  if (!digest) {
    return digest.error();
  }
  if (!size) {
    return size.error();
  }
  descriptor out;
  out.media_type = std::move(*type);
  out.digest = std::move(*digest);
  out.size_bytes = *size;
  if (auto platform = read_platform(*object, out, where); !platform) {
    return platform.error();
  }
  return out;
}

result<std::vector<descriptor>> read_descriptors(const json::object& object, const char* name,
                                                 std::size_t count_max, const std::string& where) {
  const auto* value = object.if_contains(name);
  const auto* list = value == nullptr ? nullptr : value->if_array();
  if (list == nullptr) {
    return damaged(where, "\"" + std::string{name} + "\" is not a list");
  }
  if (list->size() > count_max) {
    return fail(ec::too_large, where + ": more than " + std::to_string(count_max) + " " + name);
  }
  std::vector<descriptor> out;
  out.reserve(list->size());
  for (const auto& item : *list) {
    auto entry =
        read_descriptor(item, where + ", " + name + "[" + std::to_string(out.size()) + "]");
    if (!entry) {
      return entry.error();
    }
    out.push_back(std::move(*entry));
  }
  return out;
}

result<void> check_schema(const json::object& object, const std::string& where) {
  const auto* version = object.if_contains("schemaVersion");
  if (version == nullptr || !version->is_int64() || version->get_int64() != 2) {
    return fail(ec::unsupported, where + ": \"schemaVersion\" is not 2");
  }
  return {};
}

result<void> read_env(const json::object& config, image_config& out, std::string_view where) {
  const auto* value = config.if_contains("Env");
  if (value == nullptr || value->is_null()) {
    return {};
  }
  if (!value->is_array()) {
    return damaged(where, "\"Env\" is not a list");
  }
  std::size_t total = 0;
  for (const auto& item : value->get_array()) {
    const auto* text = item.if_string();
    if (text == nullptr || text->find('\0') != json::string::npos) {
      return damaged(where, "\"Env\" holds something else than text");
    }
    total += text->size() + 64; // an entry costs a structure beside its text
    if (total > config_env_bytes_max) {
      return fail(ec::too_large, std::string{where} + ": \"Env\" is larger than 256 KiB");
    }
    std::string_view entry{text->data(), text->size()};
    auto equals = entry.find('=');
    auto name = entry.substr(0, equals);
    if (!name.empty()) {
      out.env.emplace_back(name, equals == entry.npos ? "" : entry.substr(equals + 1));
    }
  }
  return {};
}

} // namespace

bool descriptor::is_index() const {
  return is_one_of(media_type, index_types);
}

bool descriptor::is_manifest() const {
  return is_one_of(media_type, manifest_types);
}

result<std::vector<descriptor>> parse_index(std::string_view text) {
  const std::string where = "image index";
  auto object = parse_object(text, where);
  if (!object) {
    return object.error();
  }
  if (auto schema = check_schema(*object, where); !schema) {
    return schema.error();
  }
  return read_descriptors(*object, "manifests", index_entries_max, where);
}

result<manifest> parse_manifest(std::string_view text) {
  const std::string where = "image manifest";
  auto object = parse_object(text, where);
  if (!object) {
    return object.error();
  }
  if (auto schema = check_schema(*object, where); !schema) {
    return schema.error();
  }
  const auto* config_value = object->if_contains("config");
  if (config_value == nullptr) {
    return damaged(where, "no \"config\"");
  }
  auto config = read_descriptor(*config_value, where + ", config");
  if (!config) {
    return config.error();
  }
  if (!is_one_of(config->media_type, config_types)) {
    return fail(ec::unsupported, where + ": config of type " + printable(config->media_type) +
                                     " is not a container image's");
  }
  auto layers = read_descriptors(*object, "layers", layers_max, where);
  if (!layers) {
    return layers.error();
  }
  for (const auto& layer : *layers) {
    if (!is_one_of(layer.media_type, layer_types)) {
      return fail(ec::unsupported, where + ": layer " + layer.digest + " is of type " +
                                       printable(layer.media_type) +
                                       "; known are tar, tar+gzip and tar+zstd");
    }
  }
  return manifest{std::move(*config), std::move(*layers)};
}

result<image_config> parse_image_config(std::string_view text) {
  constexpr std::string_view where = "image config";
  auto object = parse_object(text, where);
  if (!object) {
    return object.error();
  }
  image_config out;
  auto os = text_of(*object, "os", where);
  auto architecture = text_of(*object, "architecture", where);
  if (!os) {
    return os.error();
  }
  if (!architecture) {
    return architecture.error();
  }
  out.os = std::move(*os);
  out.architecture = std::move(*architecture);
  const auto* config_value = object->if_contains("config");
  if (config_value == nullptr || config_value->is_null()) {
    return out;
  }
  if (!config_value->is_object()) {
    return damaged(where, "\"config\" is not an object");
  }
  const auto& config = config_value->get_object();
  auto working_dir = text_of(config, "WorkingDir", where);
  auto user = text_of(config, "User", where);
  if (!working_dir) {
    return working_dir.error();
  }
  if (!user) {
    return user.error();
  }
  out.working_dir = std::move(*working_dir);
  out.user = std::move(*user);
  if (auto env = read_env(config, out, where); !env) {
    return env.error();
  }
  return out;
}

result<void> check_layout_marker(std::string_view text) {
  constexpr std::string_view where = "oci-layout";
  auto object = parse_object(text, where);
  if (!object) {
    return object.error();
  }
  auto version = text_of(*object, "imageLayoutVersion", where);
  if (!version) {
    return version.error();
  }
  if (!version->starts_with("1.")) {
    return fail(ec::unsupported,
                "oci-layout: layout version " + printable(*version) + "; known is 1.0.0");
  }
  return {};
}

std::string_view hex_of(const std::string& digest) {
  return std::string_view{digest}.substr(digest.find(':') + 1);
}

} // namespace coppice::storage::oci
