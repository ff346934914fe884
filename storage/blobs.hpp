#pragma once

#include "protocol/result.hpp"
#include "storage/disk/directory_sync.hpp"
#include "storage/disk/visits.hpp"
#include "storage/ring/ring.hpp"
#include "storage/ring/task.hpp"
#include "storage/stored_blob.hpp"

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace coppice::storage {

/// Uploaded files, each stored once under the SHA-256 of its content.
///
/// Problem: uploads arrive in pieces from clients that may stall or vanish, the same content many
/// times, and a file that has a name must be whole. So an upload is written beside its final place
/// while its digest is computed, and gets its name only when it is durable.
///
/// Guarantee: at most `uploads_max` uploads are in progress, each of at most `bytes_max`, and of
/// each one call at a time: while a piece of it is in the air another call is refused (conflict). A
/// file below `blobs` is whole and durable; a name that cannot be made durable is taken back. A
/// call that fails leaves nothing of its upload, but for a conflict. Digests are computed on the
/// loop: a piece is bounded (limits::transfer_chunk_bytes).
/// Owner: the thread of the ring.
class blobs {
public:
  using clock = std::function<std::chrono::steady_clock::time_point()>;
  using sha256 = stored_blob::sha256;

  /// A descriptor and a digest each; far more than clients send at once.
  static constexpr std::size_t uploads_max = 64;

  /// An upload without a byte for this long gives way to a new one when all places are taken.
  static constexpr std::chrono::seconds idle_min{30};

  struct settings {
    std::filesystem::path blob_dir;
    std::filesystem::path upload_dir; ///< on the same file system
    std::uint64_t bytes_max = 1ull << 30;
    clock now = std::chrono::steady_clock::now;
  };

  blobs(ring& on, settings chosen);
  /// After stop(), or with nothing in the air.
  ~blobs();
  blobs(const blobs&) = delete;
  blobs& operator=(const blobs&) = delete;

  /// Starts an upload and gives its number. busy: every place is taken by one that is not
  /// idle.
  task<result<std::uint64_t>> begin();
  /// too_large: beyond `bytes_max`. not_found: no such upload.
  task<result<void>> append(std::uint64_t number, std::vector<std::byte> data);
  /// Durable under its digest; the same bytes twice are stored once. not_found.
  task<result<stored_blob>> finish(std::uint64_t number);
  /// Nothing of it stays; where a piece is in the air, that goes first. One that is being finished,
  /// or that is not there, is left alone.
  task<result<void>> abort(std::uint64_t number);
  /// Up to `bytes_max` from `offset_bytes`; empty at the end. not_found.
  task<result<std::vector<std::byte>>> read(sha256 digest, std::uint64_t offset_bytes,
                                            std::size_t bytes_max);

  /// Gives up every upload and waits until nothing is in the air. No call may follow.
  task<void> stop();

  static std::string name_of(const sha256& digest);
  /// The digest that a file in `blobs` is named after; nothing for names that are never given.
  static std::optional<sha256> digest_of(std::string_view name);

private:
  struct upload;
  using upload_map = std::map<std::uint64_t, std::unique_ptr<upload>>;
  /// Held while a content gets its name: there is one at a time that may take a name back.
  class naming;

  result<upload*> enter(std::uint64_t number);
  task<result<void>> leave(std::uint64_t number, result<void> done);
  result<std::unique_ptr<upload>> make_room();
  task<result<void>> store_durably(upload& what, stored_blob& out);
  task<result<void>> give_name(upload& what, sha256 digest);
  task<void> remove(upload& what);

  ring& ring_;
  settings chosen_;
  directory_sync names_;
  std::uint64_t last_number_ = 0;
  upload_map uploads_;
  std::map<sha256, std::vector<std::coroutine_handle<>>> namings_; ///< who waits for whose end
  visits visits_;
};

} // namespace coppice::storage
