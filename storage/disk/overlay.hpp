#pragma once

#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/disk/block_device.hpp"
#include "storage/disk/block_index.hpp"
#include "storage/disk/cluster_map.hpp"
#include "storage/disk/sealed_files.hpp"
#include "storage/disk/space.hpp"
#include "storage/ring/ring.hpp"

#include <coroutine>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace coppice::storage {

class batch;

/// The disk of one run: an image below, and what the guest changes above.
///
/// Problem: a branch must cost microseconds and kilobytes. So an overlay is a map in memory; its
/// file is made by the first write, takes only clusters that the guest wrote, and gets its tables
/// when it is sealed.
///
/// Guarantee: nothing below is ever written. A cluster shows its old content until the first write
/// to it has ended. The guest never has more than `own_bytes_max` of clusters: a write beyond is
/// refused with ENOSPC. Every refusal is remembered. Owner: the thread of the ring.
class overlay final : public block_device {
public:
  struct place {
    uuid id;                    ///< of the image that it becomes
    std::filesystem::path file; ///< where its clusters go; must not be there
    std::uint64_t disk_bytes = 0;
    std::uint64_t own_bytes_max = 0;
  };

  /// `below`: what the disk shows where nothing was written; null: zeros. `files` outlives it.
  overlay(ring& on, sealed_files& files, std::shared_ptr<const block_index> below, place where);

  /// Closes the file, which stays. Nothing may be in the air.
  ~overlay() override;

  std::uint64_t size_bytes() const override {
    return where_.disk_bytes;
  }
  task<int> read(std::uint64_t offset_bytes, std::span<std::byte> out) override;
  task<int> write(std::uint64_t offset_bytes, std::span<const std::byte> data) override;
  task<int> zero(std::uint64_t offset_bytes, std::uint64_t length_bytes) override;
  std::vector<status_run> status(std::uint64_t offset_bytes, std::uint64_t length_bytes,
                                 std::size_t runs_max) override;

  // -- for the seal, when nothing is in the air --------------------------------------------------

  /// Makes the file if no write has; 0 or an errno.
  task<int> open_file();

  /// What the image below has, whatever was written above.
  task<int> read_below(std::uint64_t offset_bytes, std::span<std::byte> out);

  /// Forgets a written cluster: the disk shows what is below again.
  task<int> drop(cluster_number guest, cluster_number count);

  const cluster_map& written() const {
    return map_;
  }
  const space& file_space() const {
    return space_;
  }
  const std::shared_ptr<const block_index>& below() const {
    return below_;
  }
  const place& where() const {
    return where_;
  }
  /// -1: nothing was ever written.
  int fd() const {
    return fd_;
  }
  std::size_t in_flight() const {
    return in_flight_;
  }

  /// The first request that was refused, with what and where: its content is not to be trusted
  /// from then on, since a guest's file system may well forget that a write had failed.
  const std::optional<failure>& trouble() const {
    return trouble_;
  }

private:
  class visit;

  task<int> write_run(cluster_number guest, std::span<const std::byte> data);
  task<int> write_rest(const batch& writes);
  task<int> release(std::vector<std::pair<cluster_number, cluster_number>> file_runs);
  task<int> fetch(cluster_number guest, std::span<std::byte> out, bool own_too);
  int refuse(int error_number, failure why);
  std::uint64_t bytes_used() const;

  ring& ring_;
  sealed_files& files_;
  std::shared_ptr<const block_index> below_;
  place where_;
  cluster_map map_;
  space space_;
  int fd_ = -1;
  bool is_opening_ = false;
  std::vector<std::coroutine_handle<>> wait_for_file_;
  std::size_t in_flight_ = 0;
  std::optional<failure> trouble_;
};

} // namespace coppice::storage
