#include "storage/fsck_blobs.hpp"

#include "storage/error.hpp"
#include "storage/file.hpp"

#include <fcntl.h>
#include <openssl/evp.h>

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

namespace coppice::storage {

namespace {

constexpr char hex_digits[] = "0123456789abcdef";
constexpr std::size_t piece_bytes = 1u << 20;

result<catalog::sha256> digest_of(const file& from) {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(),
                                                                  EVP_MD_CTX_free};
  bool is_good = context && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1;
  std::vector<std::byte> piece(piece_bytes);
  for (std::uint64_t at = 0; is_good;) {
    auto got = from.read_at(at, piece);
    if (!got) {
      return got.error();
    }
    is_good = EVP_DigestUpdate(context.get(), piece.data(), *got) == 1;
    at += *got;
    if (*got < piece.size()) {
      break;
    }
  }
  catalog::sha256 out{};
  unsigned int length = 0;
  if (!is_good || EVP_DigestFinal_ex(context.get(), out.data(), &length) != 1 ||
      length != out.size()) {
    return fail(ec::io, "cannot compute a SHA-256: the cryptographic library refuses");
  }
  return out;
}

} // namespace

std::string blob_file_name(const catalog::sha256& digest) {
  std::string name;
  for (auto byte : digest) {
    name += hex_digits[byte >> 4];
    name += hex_digits[byte & 15];
  }
  return name;
}

std::optional<catalog::sha256> digest_of_name(const std::string& name) {
  catalog::sha256 digest{};
  if (name.size() != 2 * digest.size()) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < digest.size(); ++i) {
    const auto high = std::string_view{hex_digits}.find(name[2 * i]);
    const auto low = std::string_view{hex_digits}.find(name[2 * i + 1]);
    if (high >= 16 || low >= 16) {
      return std::nullopt;
    }
    digest[i] = static_cast<unsigned char>(high << 4 | low);
  }
  return digest;
}

result<std::optional<std::string>> check_blob(const std::filesystem::path& path,
                                              const catalog::blob_row& row, bool scrub) {
  using answer = std::optional<std::string>;
  auto opened = file::open(path, O_RDONLY | O_NONBLOCK);
  if (!opened) {
    if (opened.error().code != ec::not_found) {
      return opened.error();
    }
    return answer{path.string() + ": missing, though the catalog has an upload with that digest"};
  }
  auto size = opened->size_bytes();
  if (!size) {
    return size.error();
  }
  if (*size != row.size_bytes) {
    return answer{path.string() + ": has " + std::to_string(*size) + " bytes, the catalog says " +
                  std::to_string(row.size_bytes)};
  }
  if (!scrub) {
    return answer{};
  }
  auto digest = digest_of(*opened);
  if (!digest) {
    return digest.error();
  }
  return *digest == row.digest
             ? answer{}
             : answer{path.string() + ": is not what was uploaded: its SHA-256 is " +
                      blob_file_name(*digest)};
}

} // namespace coppice::storage
