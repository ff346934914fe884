#include "gateway/cli/new_token.hpp"

#include "storage/error.hpp"

#include <openssl/sha.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace coppice::cli {
namespace {

constexpr std::string_view token_prefix = "coppice_"; // lets scanners recognise a leaked one

result<std::string> random_text() {
  std::array<unsigned char, 32> bits{};
  if (getrandom(bits.data(), bits.size(), 0) != static_cast<ssize_t>(bits.size())) {
    return storage::io_failure(errno, "cannot read the kernel's random pool");
  }
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text{token_prefix};
  for (auto byte : bits) {
    text += digits[byte >> 4u];
    text += digits[byte & 15u];
  }
  return text;
}

} // namespace

const std::vector<std::string>& permission_names() {
  static const std::vector<std::string> names{"import", "spawn",         "spawn_disposable", "list",
                                              "cancel", "set_image_tag", "delete_image"};
  return names;
}

storage::catalog::sha256 token_digest(std::string_view text) {
  storage::catalog::sha256 digest{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

result<std::string> create_token(storage::catalog& catalog, const token_request& request) {
  const auto& names = permission_names();
  for (const auto& name : request.permissions) {
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      std::string known;
      for (const auto& n : names) {
        known += (known.empty() ? "" : ", ") + n;
      }
      return failure{std::make_error_code(std::errc::invalid_argument),
                     "unknown permission '" + name + "'; there are " + known};
    }
  }
  auto may = [&](std::string_view name) {
    const auto& given = request.permissions;
    return given.empty() || std::find(given.begin(), given.end(), name) != given.end();
  };
  auto text = random_text();
  if (!text) {
    return text;
  }
  auto now = std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  auto record = make_frame<proto::TokenRecord>([&](proto::TokenRecord::Builder root) {
    uuid::random().to(root.initId());
    root.setProject(request.project);
    root.setCreatedAtUnixNs(now.count());
    if (request.expires_in.count() > 0) {
      root.setExpiresAtUnixNs((now + request.expires_in).count());
    }
    root.setMayImport(may("import"));
    root.setMaySpawn(may("spawn"));
    root.setMaySpawnDisposable(may("spawn_disposable"));
    root.setMayList(may("list"));
    root.setMayCancel(may("cancel"));
    root.setMaySetImageTag(may("set_image_tag"));
    root.setMayDeleteImage(may("delete_image"));
  });
  auto writing = catalog.begin();
  if (!writing) {
    return writing.error();
  }
  auto view = record.view();
  if (auto put = writing->put_token(token_digest(*text), *view); !put) {
    return put.error();
  }
  if (auto durable = writing->commit(); !durable) {
    return durable.error();
  }
  return text;
}

} // namespace coppice::cli
