#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <boost/test/unit_test.hpp>
#include <openssl/evp.h>

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// OCI layouts made by a test, one tar entry at a time, by libarchive's writer.
namespace coppice::test {

inline std::string sha256_hex(std::string_view data) {
  std::array<unsigned char, 32> digest{};
  unsigned int length = 0;
  BOOST_REQUIRE(
      EVP_Digest(data.data(), data.size(), digest.data(), &length, EVP_sha256(), nullptr) == 1);
  std::string out;
  for (auto byte : digest) {
    constexpr char digits[] = "0123456789abcdef";
    out += digits[byte >> 4];
    out += digits[byte & 15];
  }
  return out;
}

struct tar_entry {
  std::string path;
  mode_t type = S_IFREG; ///< 0: a hard link
  std::string content;
  std::string target;
  mode_t permissions = 0644;
  std::int64_t uid = 0;
  std::int64_t gid = 0;
  std::int64_t mtime = 1'700'000'000;
  long mtime_ns = 0;
  unsigned device_major = 0;
  unsigned device_minor = 0;
  std::vector<std::pair<std::string, std::string>> xattrs{};
  std::vector<std::pair<std::int64_t, std::int64_t>> data_ranges{}; ///< offset, length; else all
};

inline tar_entry regular(std::string path, std::string content = "") {
  return {.path = std::move(path), .content = std::move(content), .target = {}};
}
inline tar_entry directory(std::string path, mode_t permissions = 0755) {
  return {.path = std::move(path),
          .type = S_IFDIR,
          .content = {},
          .target = {},
          .permissions = permissions};
}
inline tar_entry soft_link(std::string path, std::string target) {
  return {.path = std::move(path), .type = S_IFLNK, .content = {}, .target = std::move(target)};
}
inline tar_entry hard_link(std::string path, std::string target) {
  return {.path = std::move(path), .type = 0, .content = {}, .target = std::move(target)};
}
inline tar_entry special(std::string path, mode_t type, unsigned major_number = 0,
                         unsigned minor_number = 0) {
  return {.path = std::move(path),
          .type = type,
          .content = {},
          .target = {},
          .device_major = major_number,
          .device_minor = minor_number};
}

enum class compression { none, gzip, zstd };

namespace tar_writer {

inline la_ssize_t append(archive*, void* out, const void* data, std::size_t length) {
  static_cast<std::string*>(out)->append(static_cast<const char*>(data), length);
  return static_cast<la_ssize_t>(length);
}

inline void add(archive* a, const tar_entry& from) {
  auto* entry = archive_entry_new();
  archive_entry_set_pathname(entry, from.path.c_str());
  archive_entry_set_perm(entry, from.permissions);
  archive_entry_set_uid(entry, from.uid);
  archive_entry_set_gid(entry, from.gid);
  archive_entry_set_mtime(entry, from.mtime, from.mtime_ns);
  if (from.type == 0) {
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_hardlink(entry, from.target.c_str());
  } else {
    archive_entry_set_filetype(entry, from.type);
  }
  if (from.type == S_IFLNK) {
    archive_entry_set_symlink(entry, from.target.c_str());
  }
  if (from.type == S_IFREG) {
    archive_entry_set_size(entry, static_cast<la_int64_t>(from.content.size()));
    for (auto [offset, length] : from.data_ranges) {
      archive_entry_sparse_add_entry(entry, offset, length);
    }
  }
  archive_entry_set_rdevmajor(entry, from.device_major);
  archive_entry_set_rdevminor(entry, from.device_minor);
  for (const auto& [name, value] : from.xattrs) {
    archive_entry_xattr_add_entry(entry, name.c_str(), value.data(), value.size());
  }
  BOOST_REQUIRE_GE(archive_write_header(a, entry), ARCHIVE_WARN);
  if (from.type == S_IFREG) {
    BOOST_REQUIRE_EQUAL(archive_write_data(a, from.content.data(), from.content.size()),
                        static_cast<la_ssize_t>(from.content.size()));
  }
  archive_entry_free(entry);
}

} // namespace tar_writer

inline std::string tar_of(std::span<const tar_entry> entries,
                          compression packed = compression::none) {
  std::string out;
  auto* a = archive_write_new();
  archive_write_set_format_pax(a);
  archive_write_set_bytes_in_last_block(a, 1); // else zeros follow the compressed data
  if (packed == compression::gzip) {
    archive_write_add_filter_gzip(a);
  } else if (packed == compression::zstd) {
    archive_write_add_filter_zstd(a);
  }
  BOOST_REQUIRE_EQUAL(archive_write_open(a, &out, nullptr, tar_writer::append, nullptr),
                      ARCHIVE_OK);
  for (const auto& entry : entries) {
    tar_writer::add(a, entry);
  }
  BOOST_REQUIRE_EQUAL(archive_write_close(a), ARCHIVE_OK);
  archive_write_free(a);
  return out;
}

inline std::string tar_of(std::initializer_list<tar_entry> entries,
                          compression packed = compression::none) {
  return tar_of(std::span{entries.begin(), entries.size()}, packed);
}

inline constexpr const char* oci_index = "application/vnd.oci.image.index.v1+json";
inline constexpr const char* oci_manifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr const char* oci_config = "application/vnd.oci.image.config.v1+json";
inline constexpr const char* oci_layer = "application/vnd.oci.image.layer.v1.tar";

/// A layout folder that grows blob by blob.
class layout_folder {
public:
  explicit layout_folder(std::filesystem::path path) : path_{std::move(path)} {
    std::filesystem::create_directories(path_ / "blobs" / "sha256");
    write("oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
  }

  const std::filesystem::path& path() const {
    return path_;
  }

  void write(const std::filesystem::path& name, std::string_view data) {
    std::ofstream out{path_ / name, std::ios::binary | std::ios::trunc};
    out.write(data.data(), static_cast<std::streamsize>(data.size()));
    BOOST_REQUIRE(out.good());
  }

  std::filesystem::path blob_path(std::string_view hex) const {
    return path_ / "blobs" / "sha256" / hex;
  }

  /// Stores a blob and gives its descriptor as JSON; `more` is further members, with a comma first.
  std::string add(std::string_view media_type, std::string_view data, std::string more = "") {
    const auto hex = sha256_hex(data);
    write(std::filesystem::path{"blobs"} / "sha256" / hex, data);
    return R"({"mediaType":")" + std::string{media_type} + R"(","digest":"sha256:)" + hex +
           R"(","size":)" + std::to_string(data.size()) + more + "}";
  }

  static std::string list(const std::vector<std::string>& items) {
    std::string out;
    for (const auto& item : items) {
      out += (out.empty() ? "" : ",") + item;
    }
    return "[" + out + "]";
  }

  static std::string manifest_text(const std::string& config,
                                   const std::vector<std::string>& layers) {
    return R"({"schemaVersion":2,"config":)" + config + R"(,"layers":)" + list(layers) + "}";
  }

  static std::string index_text(const std::vector<std::string>& manifests) {
    return R"({"schemaVersion":2,"manifests":)" + list(manifests) + "}";
  }

  static std::string platform(std::string_view architecture, std::string_view os = "linux") {
    return R"(,"platform":{"os":")" + std::string{os} + R"(","architecture":")" +
           std::string{architecture} + R"("})";
  }

  static std::string config_text(std::string_view architecture = "amd64",
                                 std::string_view config = "{}") {
    return R"({"os":"linux","architecture":")" + std::string{architecture} + R"(","config":)" +
           std::string{config} + "}";
  }

  /// An image of these layers (tars); gives its manifest's descriptor.
  std::string add_image(const std::vector<std::string>& tars,
                        const std::string& config = config_text()) {
    std::vector<std::string> layers;
    for (const auto& tar : tars) {
      layers.push_back(add(oci_layer, tar));
    }
    return add(oci_manifest, manifest_text(add(oci_config, config), layers), platform("amd64"));
  }

  void set_index(const std::vector<std::string>& manifests) {
    write("index.json", index_text(manifests));
  }

  /// The only image of the layout.
  void set_image(const std::vector<std::string>& tars) {
    set_index({add_image(tars)});
  }

private:
  std::filesystem::path path_;
};

} // namespace coppice::test
