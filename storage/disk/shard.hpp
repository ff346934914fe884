#pragma once

#include "storage/disk/directory_sync.hpp"
#include "storage/disk/engine.hpp"
#include "storage/disk/nbd_connection.hpp"
#include "storage/disk/overlay.hpp"
#include "storage/disk/sealed_files.hpp"
#include "storage/disk/visits.hpp"
#include "storage/ring/loop.hpp"

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace coppice::storage {

/// What an import has left, while it is looked at.
struct import_file {
  int fd = -1;
  std::string name; ///< for texts of failures
  std::uint64_t size_bytes = 0;
};

/// The part of the engine that lives on one loop: everything here runs on its thread.
class shard {
public:
  shard(ring& on, std::filesystem::path images, index_cache& indexes, std::size_t files_open_max);

  /// `socket` is ours from now on.
  void open_slot(engine::slot_number number, int socket);
  task<void> close_slot(engine::slot_number number);
  task<result<void>> attach(engine::branch what);
  task<result<sealed_image>> seal(uuid overlay_id, unchanged_disk unchanged);
  task<result<engine::discarded>> discard(uuid overlay_id);

  // What engine.hpp says of them; `forget_file` is told to every shard.
  task<result<engine::file_piece>> read_file(uuid image, std::uint64_t offset_bytes,
                                             std::size_t bytes_max);
  task<result<std::uint64_t>> punch(uuid image, std::vector<own_extent> clusters);
  task<result<std::uint64_t>> remove_file(uuid image);
  void forget_file(const uuid& image) {
    files_.forget(image);
  }

  // The steps of an import's seal (import_seals.hpp). The last two close the file.
  task<result<import_file>> open_import(uuid image);
  task<result<engine::file_piece>> read_import(import_file from, std::uint64_t offset_bytes,
                                               std::size_t bytes_max);
  task<result<sealed_image>> close_import(import_file from, failure why);
  /// File durable, its name, its name durable.
  task<result<sealed_image>> name_import(uuid image, import_file from,
                                         std::shared_ptr<const block_index> index);

  /// Closes every slot and waits until nothing is in the air.
  task<void> stop();

private:
  struct disk {
    std::unique_ptr<overlay> content;
    uuid parent;
    engine::slot_number at = 0; ///< 0: none
  };

  std::filesystem::path overlay_file(const uuid& id) const;
  std::filesystem::path image_file(const uuid& id) const;
  struct slot {
    std::unique_ptr<nbd_connection> connection;
    bool is_closed = false;            ///< its guest is gone, or close() has ended
    std::coroutine_handle<> on_closed; ///< waits for that
    std::vector<std::coroutine_handle<>> on_idle;
  };
  /// Waits until the slot's guest has nothing in the air.
  class idle;
  class closed;

  /// Takes the disk from its slot.
  task<void> detach(disk& from);

  ring& ring_;
  std::filesystem::path images_;
  index_cache& indexes_;
  sealed_files files_;
  directory_sync names_;
  std::unordered_map<engine::slot_number, std::unique_ptr<slot>> slots_;
  std::unordered_map<uuid, disk> disks_;
  visits visits_;
};

} // namespace coppice::storage
