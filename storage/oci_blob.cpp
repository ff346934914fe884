#include "storage/oci_blob.hpp"

#include "storage/error.hpp"

#include <openssl/evp.h>

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace coppice::storage::oci {

namespace {

/// One read of a blob: large enough that the call does not count.
constexpr std::size_t read_bytes = 256u << 10;

/// A regular file, opened without following a link and without waiting for a fifo's other end.
result<file> open_regular(const std::filesystem::path& path) {
  auto opened = file::open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (!opened) {
    return opened.error();
  }
  struct stat status {};
  if (::fstat(opened->fd(), &status) != 0) {
    return io_failure(errno, path.string());
  }
  if (!S_ISREG(status.st_mode)) {
    return fail(ec::wrong_type, path.string() + " is not a regular file");
  }
  return opened;
}

std::string hex_text(std::span<const unsigned char> bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string out;
  for (auto byte : bytes) {
    out += digits[byte >> 4];
    out += digits[byte & 15];
  }
  return out;
}

} // namespace

void blob::digest_deleter::operator()(EVP_MD_CTX* context) const {
  EVP_MD_CTX_free(context);
}

blob::blob(file source, descriptor described)
    : file_{std::move(source)}, described_{std::move(described)}, digest_{EVP_MD_CTX_new()},
      buffer_(static_cast<std::size_t>(
          std::min<std::uint64_t>(read_bytes, described_.size_bytes + 1))) {
  // nop
}

blob::~blob() = default;

result<std::unique_ptr<blob>> blob::open(const std::filesystem::path& layout,
                                         const descriptor& described) {
  auto source = open_regular(layout / "blobs" / "sha256" / hex_of(described.digest));
  if (!source) {
    if (source.error().code == ec::not_found) {
      return fail(ec::not_found, "the layout lacks blob " + described.digest);
    }
    return source.error();
  }
  std::unique_ptr<blob> out{new blob{std::move(*source), described}};
  if (!out->digest_ || EVP_DigestInit_ex(out->digest_.get(), EVP_sha256(), nullptr) != 1) {
    return fail(ec::io, "OpenSSL has no SHA-256");
  }
  return out;
}

result<std::span<const std::byte>> blob::next() {
  auto count = file_.read_at(read_bytes_, buffer_);
  if (!count) {
    return count.error();
  }
  read_bytes_ += *count;
  if (read_bytes_ > described_.size_bytes) {
    return fail(ec::damaged, "blob " + described_.digest + " is longer than its descriptor says (" +
                                 std::to_string(described_.size_bytes) + " bytes)");
  }
  auto data = std::span<const std::byte>{buffer_}.first(*count);
  if (EVP_DigestUpdate(digest_.get(), data.data(), data.size()) != 1) {
    return fail(ec::io, "OpenSSL could not digest blob " + described_.digest);
  }
  return data;
}

result<void> blob::verify() {
  for (;;) {
    auto data = next();
    if (!data) {
      return data.error();
    }
    if (data->empty()) {
      break;
    }
  }
  if (read_bytes_ != described_.size_bytes) {
    return fail(ec::damaged, "blob " + described_.digest + " has " + std::to_string(read_bytes_) +
                                 " bytes, its descriptor says " +
                                 std::to_string(described_.size_bytes));
  }
  std::array<unsigned char, 32> digest{};
  unsigned int length = 0;
  if (EVP_DigestFinal_ex(digest_.get(), digest.data(), &length) != 1 || length != digest.size()) {
    return fail(ec::io, "OpenSSL could not digest blob " + described_.digest);
  }
  if (hex_text(digest) != hex_of(described_.digest)) {
    return fail(ec::damaged,
                "blob " + described_.digest + " has the digest sha256:" + hex_text(digest));
  }
  return {};
}

result<std::string> read_document(const std::filesystem::path& layout,
                                  const descriptor& described) {
  if (described.size_bytes > document_bytes_max) {
    return fail(ec::too_large, "document " + described.digest + " is larger than 4 MiB");
  }
  auto source = blob::open(layout, described);
  if (!source) {
    return source.error();
  }
  std::string out;
  for (;;) {
    auto data = (*source)->next();
    if (!data) {
      return data.error();
    }
    if (data->empty()) {
      break;
    }
    out.append(reinterpret_cast<const char*>(data->data()), data->size());
  }
  if (auto verified = (*source)->verify(); !verified) {
    return verified.error();
  }
  return out;
}

result<std::string> read_layout_file(const std::filesystem::path& layout, const char* name) {
  auto source = open_regular(layout / name);
  if (!source) {
    return source.error();
  }
  auto size = source->size_bytes();
  if (!size) {
    return size.error();
  }
  if (*size > document_bytes_max) {
    return fail(ec::too_large, (layout / name).string() + " is larger than 4 MiB");
  }
  std::string out(static_cast<std::size_t>(*size), '\0');
  auto count = source->read_at(0, std::as_writable_bytes(std::span{out}));
  if (!count) {
    return count.error();
  }
  out.resize(*count);
  return out;
}

} // namespace coppice::storage::oci
