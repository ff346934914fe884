#pragma once

#include "storage/byte_input.hpp"
#include "storage/file.hpp"
#include "storage/oci_manifest.hpp"

#include <openssl/types.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace coppice::storage::oci {

/// One blob of a layout, read as a stream.
///
/// Problem: a blob must be what its descriptor says, but is too large to be read twice.
/// Guarantee: `verify` succeeds only if exactly the described bytes were in the file, whether or
/// not all of them had been asked for. Until then nothing read may be trusted: an import that fails
/// here throws away what it has made. Owner: one thread.
class blob final : public byte_input {
public:
  /// not_found: the layout lacks it. wrong_type: not a regular file; a link is never followed.
  static result<std::unique_ptr<blob>> open(const std::filesystem::path& layout,
                                            const descriptor& described);

  ~blob() override;
  blob(const blob&) = delete;
  blob& operator=(const blob&) = delete;

  result<std::span<const std::byte>> next() override;

  /// Reads what is left and compares size and digest. damaged.
  result<void> verify();

private:
  struct digest_deleter {
    void operator()(EVP_MD_CTX* context) const;
  };

  blob(file source, descriptor described);

  file file_;
  descriptor described_;
  std::unique_ptr<EVP_MD_CTX, digest_deleter> digest_;
  std::vector<std::byte> buffer_;
  std::uint64_t read_bytes_ = 0;
};

/// A whole JSON document, verified. too_large: beyond document_bytes_max.
result<std::string> read_document(const std::filesystem::path& layout, const descriptor& described);

/// A small file of the layout itself (oci-layout, index.json), of at most document_bytes_max.
result<std::string> read_layout_file(const std::filesystem::path& layout, const char* name);

} // namespace coppice::storage::oci
