#pragma once

#include "protocol/result.hpp"
#include "storage/store.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace coppice::storage {

/// Uploaded files, each stored once under the SHA-256 of its content.
///
/// Problem: uploads arrive in pieces from clients that may stall or vanish, the same content many
/// times, and a file that has a name must be whole. So an upload is written beside its final place
/// while its digest is computed, and gets its name only when it is durable.
///
/// Guarantee: at most `uploads_max` uploads are in progress, each of at most bytes_max(); a file
/// below `blobs` is whole and durable.
/// Owner: the store.
class blobs {
public:
  using clock = std::function<std::chrono::steady_clock::time_point()>;

  /// A descriptor and a digest each; far more than clients send at once.
  static constexpr std::size_t uploads_max = 64;

  /// An upload without a byte for this long gives way to a new one when all places are taken.
  static constexpr std::chrono::seconds idle_min{30};

  blobs(std::filesystem::path blob_dir, std::filesystem::path upload_dir, clock now);
  ~blobs();

  void bytes_max(std::uint64_t bytes) {
    bytes_max_ = bytes;
  }

  /// too_large: every place is taken by an upload that is not idle.
  result<std::uint64_t> begin();
  result<void> append(std::uint64_t upload, std::span<const std::byte> data);
  result<store::stored_blob> finish(std::uint64_t upload);
  void abort(std::uint64_t upload);
  result<std::vector<std::byte>> read(const store::sha256& digest, std::uint64_t offset_bytes,
                                      std::size_t bytes_max) const;

  /// The digest that a file in `blobs` is named after; nothing for names that are never given.
  static std::optional<store::sha256> digest_of(std::string_view name);

private:
  struct upload;
  using upload_map = std::map<std::uint64_t, std::unique_ptr<upload>>;

  result<upload_map::iterator> find(std::uint64_t number);
  result<void> make_room();
  void drop(upload_map::iterator where);
  std::filesystem::path path_of(const store::sha256& digest) const;

  std::filesystem::path blob_dir_;
  std::filesystem::path upload_dir_;
  clock now_;
  std::uint64_t bytes_max_ = 1ull << 30;
  std::uint64_t last_number_ = 0;
  upload_map uploads_;
};

} // namespace coppice::storage
