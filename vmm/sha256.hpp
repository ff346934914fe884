#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace coppice::vmm {

using sha256_digest = std::array<unsigned char, 32>;

/// Lower-case hex.
std::string to_text(const sha256_digest& digest);

/// SHA-256 of what is added, in pieces.
class sha256 {
public:
  sha256();

  void add(std::span<const std::byte> bytes);
  void add(std::string_view text);

  /// Once, after all pieces.
  sha256_digest finish();

private:
  struct freer {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, freer> context_;
};

} // namespace coppice::vmm
