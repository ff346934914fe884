#include "vmm/sha256.hpp"

#include <openssl/evp.h>

#include <new>

namespace coppice::vmm {

namespace {

/// These fail only without memory.
void require(bool worked) {
  if (!worked) {
    throw std::bad_alloc{};
  }
}

} // namespace

void sha256::freer::operator()(evp_md_ctx_st* context) const {
  EVP_MD_CTX_free(context);
}

sha256::sha256() : context_{EVP_MD_CTX_new()} {
  require(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
}

void sha256::add(std::span<const std::byte> bytes) {
  require(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
}

void sha256::add(std::string_view text) {
  add(std::as_bytes(std::span{text}));
}

sha256_digest sha256::finish() {
  sha256_digest out{};
  unsigned size = 0;
  require(EVP_DigestFinal_ex(context_.get(), out.data(), &size) == 1 && size == out.size());
  return out;
}

std::string to_text(const sha256_digest& digest) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  for (unsigned char byte : digest) {
    out += digits[byte >> 4];
    out += digits[byte & 15];
  }
  return out;
}

} // namespace coppice::vmm
