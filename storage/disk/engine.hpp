#pragma once

#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/disk/index_cache.hpp"
#include "storage/disk/seal.hpp"
#include "storage/ring/ring.hpp"
#include "storage/stored_blob.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace coppice::storage {

/// What carries out the requests of the store.
enum class io_kind : std::uint8_t {
  automatic, ///< io_uring where it may be used, else threads
  uring,
  threads,
};

/// The disks of a node: overlays, the slots through which guests reach them, and their seals.
///
/// Problem: a run's disk must be there in microseconds at any depth, blocks must not pass through
/// actors, and a guest must not reach a file. So QEMU is an NBD client on a socket pair, and
/// the other end, a *slot*, is served here: one loop per core, each with its own ring, that handles
/// sockets and files together. A slot can be pointed to another overlay while its guest has nothing
/// mounted.
///
/// Stored files and imports' seals are its work too, so that nothing waits for their disk.
///
/// Guarantee: an overlay and its slot live on one loop, and all uploads on one; calls come from any
/// thread, are carried out in the order in which one thread makes them, and answer once, on a
/// loop's thread.
class engine {
public:
  struct options {
    unsigned loops = 0; ///< 0: one for each core
    io_kind io = io_kind::automatic;
    std::size_t sealed_files_open_max = 512; ///< for each loop
    std::size_t index_bytes_max = 256u << 20;
    /// The folders of stored files and of uploads in progress (storage/blobs.hpp); empty: nothing
    /// can be uploaded.
    std::filesystem::path blobs;
    std::filesystem::path uploads;
    std::uint64_t blob_bytes_max = 1ull << 30;
    /// Puts something between each loop and its ring: recording, faults. Empty: nothing.
    std::function<std::unique_ptr<ring>(std::unique_ptr<ring>)> wrap_ring;
  };

  template <class T>
  using answer = std::function<void(result<T>)>;

  /// `images`: the folder of sealed files, in which overlays lie beside them.
  /// io: io_uring was asked for and may not be used.
  static result<std::unique_ptr<engine>> start(std::filesystem::path images,
                                               index_cache::load load_index, options how);
  /// Stops, if stop() was not called.
  ~engine();
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;

  /// Closes all slots, gives up uploads and the checks of imports, lets what is under way end and
  /// drops all overlays. Every answer has been
  /// given when it returns, and none is kept: what they hold may go away. Nothing may be called
  /// afterwards.
  void stop();

  /// Names a slot.
  using slot_number = std::uint64_t;

  struct slot {
    slot_number number = 0;
    int client = -1; ///< the guest's end, connected; the caller closes it
  };

  /// A slot without a disk: requests are refused until `attach`.
  result<slot> open_slot();

  /// Serves no more; what is in the air ends. Unknown numbers are fine.
  void close_slot(slot_number number);

  struct branch {
    slot_number at = 0;
    uuid overlay; ///< of the image that it becomes
    uuid parent;  ///< none: a disk of zeros, which cannot be sealed
    std::uint64_t own_bytes_max = 0;
  };

  /// A new overlay over an image becomes the slot's disk. not_found: no such parent, or no such
  /// slot; conflict: the overlay is there already.
  void attach(const branch& what, answer<void> then);

  /// Takes the disk from its slot, waits until nothing is in the air, and seals it (seal.hpp). The
  /// overlay is gone afterwards, but for its file where that failed. not_found.
  void seal(const uuid& overlay, answer<sealed_image> then,
            unchanged_disk unchanged = unchanged_disk::is_parent);

  struct discarded {
    std::string trouble;          ///< what it had refused first to its guest; empty: nothing
    bool is_beyond_limit = false; ///< because of `own_bytes_max`
  };

  /// Makes the file that an import has left under the overlay's name the immutable one of its
  /// image. Believes nothing of it: it must be what qcow2/sealed_file.hpp describes, without a
  /// parent, and its ext4 superblock must say clean. The image's index is in indexes() then.
  /// damaged, not_clean, unsupported, not_found, conflict: the image is there already.
  void seal_import(const uuid& image, answer<sealed_image> then);

  /// Drops the overlay and its file, and the sealed file of that id, whose record was never
  /// committed; what is not there is fine. An import that is being sealed is given up.
  void discard(const uuid& overlay, answer<discarded> then);

  // -- uploads (storage/blobs.hpp says what each does) -------------------------------------------

  void begin_blob(answer<std::uint64_t> then);
  void append_blob(std::uint64_t upload, std::vector<std::byte> data, answer<void> then);
  void finish_blob(std::uint64_t upload, answer<stored_blob> then);
  void abort_blob(std::uint64_t upload, answer<void> then);
  void read_blob(const stored_blob::sha256& digest, std::uint64_t offset_bytes,
                 std::size_t bytes_max, answer<std::vector<std::byte>> then);

  // -- the files of images (storage/reclaimer.hpp) -----------------------------------------------

  struct file_piece {
    std::vector<std::byte> bytes; ///< less than asked for at the end of the file
    std::uint64_t file_bytes = 0; ///< size of the whole
  };

  /// A part of a sealed file as it lies on disk. not_found.
  void read_file(const uuid& image, std::uint64_t offset_bytes, std::size_t bytes_max,
                 answer<file_piece> then);

  /// Gives back clusters of a deleted image's file (their `file` and `count`), which read as zeros
  /// from then on; everything else stays where it is. Answers by how many bytes the file became
  /// smaller on disk; again and again is fine. not_found.
  void punch(const uuid& image, std::vector<own_extent> clusters, answer<std::uint64_t> then);

  /// Removes the file of an image that nothing needs any more and forgets what is known of it.
  /// Answers what it took on disk; 0 where there was none.
  void remove_file(const uuid& image, answer<std::uint64_t> then);

  /// The index of a new image that was made elsewhere (an import).
  void put_index(const uuid& image, std::shared_ptr<const block_index> index);

  index_cache& indexes();

  /// What carries out requests: "io_uring", or "threads" and why.
  const std::string& io_description() const;

private:
  struct impl;
  explicit engine(std::unique_ptr<impl> state);
  std::unique_ptr<impl> impl_;
};

} // namespace coppice::storage
