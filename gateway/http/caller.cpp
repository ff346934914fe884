#include "gateway/http/caller.hpp"

#include "gateway/http/look_up.hpp"
#include "gateway/http/names.hpp"

#include <boost/beast/core/string.hpp>

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <array>
#include <memory>

namespace coppice::gateway {
namespace {

/// Longer ones are not ours; hashing them would be work for nothing.
constexpr std::size_t token_bytes_max = 512;

/// What follows `Bearer `; empty when there is no such thing.
std::string_view bearer(std::string_view authorization) {
  constexpr std::string_view scheme = "Bearer ";
  if (authorization.size() <= scheme.size() ||
      !boost::beast::iequals({authorization.data(), scheme.size()},
                             {scheme.data(), scheme.size()})) {
    return {};
  }
  auto token = authorization.substr(scheme.size());
  auto first = token.find_first_not_of(' ');
  auto last = token.find_last_not_of(' ');
  return first == std::string_view::npos ? std::string_view{}
                                         : token.substr(first, last - first + 1);
}

/// SHA256() looks for an implementation each time, which takes longer than hashing a token. All
/// zeros, which no token has, if it fails.
std::array<unsigned char, SHA256_DIGEST_LENGTH> sha256_of_token(std::string_view token) {
  static const std::unique_ptr<EVP_MD, decltype(&EVP_MD_free)> sha256{
      EVP_MD_fetch(nullptr, "SHA256", nullptr), EVP_MD_free};
  std::array<unsigned char, SHA256_DIGEST_LENGTH> out{};
  EVP_Digest(token.data(), token.size(), out.data(), nullptr, sha256.get(), nullptr);
  return out;
}

caller owner_of(proto::TokenRecord::Reader record) {
  caller out;
  out.project = record.getProject().cStr();
  out.token = uuid::from(record.getId());
  out.expires_at_unix_ns = record.getExpiresAtUnixNs();
  auto grant = [&](bool granted, permission bit) {
    out.permissions |= granted ? static_cast<unsigned>(bit) : 0u;
  };
  grant(record.getMayImport(), may_import);
  grant(record.getMaySpawn(), may_spawn);
  grant(record.getMaySpawnDisposable(), may_spawn_disposable);
  grant(record.getMayList(), may_list);
  grant(record.getMayCancel(), may_cancel);
  grant(record.getMaySetImageTag(), may_set_image_tag);
  grant(record.getMayDeleteImage(), may_delete_image);
  return out;
}

} // namespace

refusal insufficient(unsigned any_of) {
  std::string text = "Insufficient permissions: ";
  bool is_first = true;
  for (unsigned bit = 0; bit < std::size(permission_names); ++bit) {
    if (any_of & (1u << bit)) {
      text += is_first ? "" : " or ";
      text += permission_names[bit];
      is_first = false;
    }
  }
  return {403, std::move(text)};
}

asio::awaitable<answer<caller>> identify_token(context& server, std::string_view authorization) {
  auto token = bearer(authorization);
  if (token.empty()) {
    co_return refusal{401, "an access token is required: Authorization: Bearer TOKEN"};
  }
  if (token.size() > token_bytes_max) {
    co_return refusal{401, "unknown or expired token"};
  }
  const auto digest = sha256_of_token(token);
  auto request = make_frame<proto::FindToken>([&](auto root) {
    root.setSha256(capnp::Data::Reader{digest.data(), digest.size()});
  });
  auto found = co_await look_up<proto::TokenRecord>(server, std::move(request),
                                                    &storage::catalog::find_token);
  if (found.has_error()) {
    auto why = found.error();
    if (why.status == 404 || why.status == 401) {
      why = refusal{401, "unknown or expired token"};
    }
    co_return why;
  }
  auto record = found->view();
  co_return owner_of(*record);
}

answer<caller> identify_operator(std::string_view project) {
  if (!is_project(project)) {
    return bad_request("project must be 1 to 64 characters of a-z 0-9 . _ -");
  }
  caller out;
  out.project = std::string{project};
  out.permissions = may_everything;
  return out;
}

} // namespace coppice::gateway
