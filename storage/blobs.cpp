#include "storage/blobs.hpp"

#include "storage/error.hpp"
#include "storage/file.hpp"

#include <fcntl.h>
#include <openssl/evp.h>

#include <algorithm>
#include <string>
#include <utility>

namespace coppice::storage {

namespace {

constexpr std::string_view digits = "0123456789abcdef";

/// A SHA-256 in the making.
class digester {
public:
  digester() : context_{EVP_MD_CTX_new(), EVP_MD_CTX_free} {
    ok_ = context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1;
  }

  void update(std::span<const std::byte> data) {
    ok_ = ok_ && EVP_DigestUpdate(context_.get(), data.data(), data.size()) == 1;
  }

  result<store::sha256> finish() {
    store::sha256 out{};
    unsigned int length = 0;
    ok_ =
        ok_ && EVP_DigestFinal_ex(context_.get(), out.data(), &length) == 1 && length == out.size();
    if (!ok_) {
      return fail(ec::io, "cannot compute a SHA-256: the cryptographic library refuses");
    }
    return out;
  }

private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
  bool ok_ = false;
};

} // namespace

struct blobs::upload {
  explicit upload(file opened, std::chrono::steady_clock::time_point at)
      : out{std::move(opened)}, last_use{at} {}

  file out;
  digester digest;
  std::uint64_t size_bytes = 0;
  std::chrono::steady_clock::time_point last_use;
};

blobs::blobs(std::filesystem::path blob_dir, std::filesystem::path upload_dir, clock now)
    : blob_dir_{std::move(blob_dir)}, upload_dir_{std::move(upload_dir)}, now_{std::move(now)} {
  // nop
}

blobs::~blobs() {
  while (!uploads_.empty()) {
    drop(uploads_.begin());
  }
}

result<std::uint64_t> blobs::begin() {
  if (auto room = make_room(); !room) {
    return room.error();
  }
  auto number = ++last_number_;
  auto out = file::open(upload_dir_ / std::to_string(number), O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (!out) {
    return out.error();
  }
  uploads_.emplace(number, std::make_unique<upload>(std::move(*out), now_()));
  return number;
}

result<void> blobs::append(std::uint64_t number, std::span<const std::byte> data) {
  auto found = find(number);
  if (!found) {
    return found.error();
  }
  auto& target = *(*found)->second;
  if (data.size() > bytes_max_ || target.size_bytes > bytes_max_ - data.size()) {
    drop(*found);
    return fail(ec::too_large,
                "the upload is larger than " + std::to_string(bytes_max_) + " bytes");
  }
  if (auto written = target.out.write_at(target.size_bytes, data); !written) {
    drop(*found); // a full disk is relieved at once, and half a chunk cannot be continued
    return written;
  }
  target.digest.update(data);
  target.size_bytes += data.size();
  target.last_use = now_();
  return {};
}

result<store::stored_blob> blobs::finish(std::uint64_t number) {
  auto found = find(number);
  if (!found) {
    return found.error();
  }
  auto& done = *(*found)->second;
  store::stored_blob out{{}, done.size_bytes};
  auto store_it = [&]() -> result<void> {
    auto digest = done.digest.finish();
    if (!digest) {
      return digest.error();
    }
    out.digest = *digest;
    if (auto mode = done.out.set_mode(0400); !mode) {
      return mode;
    }
    if (auto synced = done.out.sync(); !synced) {
      return synced;
    }
    auto moved = move_durably(done.out.path(), path_of(out.digest));
    if (!moved && moved.error().code == ec::conflict) {
      // Known content. Its name may be younger than the last sync of the folder.
      return sync_directory(blob_dir_);
    }
    return moved;
  }();
  drop(*found);
  if (!store_it) {
    return store_it.error();
  }
  return out;
}

void blobs::abort(std::uint64_t number) {
  if (auto found = uploads_.find(number); found != uploads_.end()) {
    drop(found);
  }
}

result<std::vector<std::byte>> blobs::read(const store::sha256& digest, std::uint64_t offset_bytes,
                                           std::size_t bytes_max) const {
  auto from = file::open(path_of(digest), O_RDONLY);
  if (!from) {
    return from.error();
  }
  auto size = from->size_bytes();
  if (!size) {
    return size.error();
  }
  if (offset_bytes >= *size) {
    return std::vector<std::byte>{};
  }
  auto left = *size - offset_bytes;
  std::vector<std::byte> out(static_cast<std::size_t>(std::min<std::uint64_t>(bytes_max, left)));
  auto got = from->read_at(offset_bytes, out);
  if (!got) {
    return got.error();
  }
  if (*got != out.size()) {
    return fail(ec::damaged, from->path().string() + ": became shorter while it was read");
  }
  return out;
}

result<blobs::upload_map::iterator> blobs::find(std::uint64_t number) {
  auto found = uploads_.find(number);
  if (found == uploads_.end()) {
    return fail(ec::not_found, "no upload " + std::to_string(number) +
                                   " is in progress: it was finished, or dropped when idle");
  }
  return found;
}

result<void> blobs::make_room() {
  if (uploads_.size() < uploads_max) {
    return {};
  }
  auto idlest = std::min_element(uploads_.begin(), uploads_.end(), [](auto& a, auto& b) {
    return a.second->last_use < b.second->last_use;
  });
  if (now_() - idlest->second->last_use < idle_min) {
    return fail(ec::too_large, std::to_string(uploads_max) +
                                   " uploads are in progress, which is the limit: try again later");
  }
  drop(idlest);
  return {};
}

void blobs::drop(upload_map::iterator where) {
  // After a finish there is nothing to remove. What cannot be removed now is removed at start.
  static_cast<void>(remove_file(where->second->out.path()));
  uploads_.erase(where);
}

std::optional<store::sha256> blobs::digest_of(std::string_view name) {
  store::sha256 out{};
  if (name.size() != 2 * out.size()) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto high = digits.find(name[2 * i]);
    const auto low = digits.find(name[2 * i + 1]);
    if (high == digits.npos || low == digits.npos) {
      return std::nullopt;
    }
    out[i] = static_cast<unsigned char>(high << 4 | low);
  }
  return out;
}

std::filesystem::path blobs::path_of(const store::sha256& digest) const {
  std::string name;
  for (auto byte : digest) {
    name += digits[byte >> 4];
    name += digits[byte & 15];
  }
  return blob_dir_ / name;
}

} // namespace coppice::storage
