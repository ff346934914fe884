#pragma once

#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/ring/ring.hpp"
#include "storage/ring/task.hpp"

#include <cstddef>
#include <filesystem>
#include <list>
#include <unordered_map>
#include <utility>

namespace coppice::storage {

/// Descriptors of sealed files, read-only.
///
/// Problem: an image a thousand levels deep has its blocks in up to a thousand files, and a process
/// may not have so many open. So a file is opened when a block of it is first read, and the least
/// recently read one is closed when too many are open.
///
/// Guarantee: at most `open_max` descriptors, and those that reads are using right now. Owner: the
/// thread of the ring.
class sealed_files {
public:
  /// The file <image>.qcow2 in `dir`.
  sealed_files(ring& on, std::filesystem::path dir, std::size_t open_max);
  ~sealed_files();
  sealed_files(const sealed_files&) = delete;
  sealed_files& operator=(const sealed_files&) = delete;

  /// A descriptor that stays open as long as this lives.
  class lease {
  public:
    lease(lease&& other) noexcept
        : of_{std::exchange(other.of_, nullptr)}, image_{other.image_}, fd_{other.fd_} {}
    lease& operator=(lease&&) = delete;
    ~lease() {
      if (of_) {
        of_->give_back(image_);
      }
    }
    int fd() const {
      return fd_;
    }

  private:
    friend class sealed_files;
    lease(sealed_files& of, const uuid& image, int fd) : of_{&of}, image_{image}, fd_{fd} {}
    sealed_files* of_;
    uuid image_;
    int fd_;
  };

  task<result<lease>> open(uuid image);

  /// Closes it, at the end of its use: the file is about to be removed.
  void forget(const uuid& image);

  std::size_t open_count() const {
    return entries_.size();
  }

private:
  struct entry {
    int fd = -1;
    std::size_t users = 0;
    bool is_forgotten = false;
    std::list<uuid>::iterator place; ///< in unused_, while users is 0
  };

  lease lend(const uuid& image, entry& e);
  void give_back(const uuid& image);
  void close_unused_down_to(std::size_t count);

  ring& ring_;
  std::filesystem::path dir_;
  std::size_t open_max_;
  std::unordered_map<uuid, entry> entries_;
  std::list<uuid> unused_; ///< least recently used first
};

} // namespace coppice::storage
