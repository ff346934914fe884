#pragma once

#include "protocol/result.hpp"
#include "protocol/uuid.hpp"
#include "storage/disk/index_cache.hpp"
#include "storage/disk/seal.hpp"

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

namespace coppice::storage {

class loop;
class shard;
struct import_file;

/// The seals of imports: files that a worker has left become images.
///
/// Problem: such a file is not believed, and the code that reads its tables waits for each piece of
/// it; on a loop of the engine it would hold up every guest there. So it runs on a thread of its
/// own, one file after the other, which reads through the image's loop. What makes a file durable
/// is done by that loop alone.
///
/// Guarantee: on success the file is whole and durable under its name, and its index is in the
/// cache; on failure nothing is under that name. Answers are given once, on a thread of a loop; at
/// most `outstanding_max` are outstanding. Any thread but those of the loops may stop it.
class import_seals {
public:
  using answer = std::function<void(result<sealed_image>)>;

  /// The loop that works on the file of an image, and what lives there.
  struct place {
    loop& thread;
    shard& work;
  };
  using places = std::function<place(const uuid& image)>;

  /// More than any node imports at a time; each is a few hundred bytes.
  static constexpr std::size_t outstanding_max = 1024;

  import_seals(places of, index_cache& indexes);
  /// After stop().
  ~import_seals();
  import_seals(const import_seals&) = delete;
  import_seals& operator=(const import_seals&) = delete;

  void seal(const uuid& image, answer then);

  /// If that image is being sealed, ends its check soon, does `work` behind its answer and gives
  /// true.
  bool give_up(const uuid& image, std::function<void()> work);

  /// Ends the check that is under way and refuses those that wait; returns when every answer was
  /// given. The loops must still run. Nothing may be called afterwards.
  void stop();

private:
  struct job;

  void work();
  void run(const std::shared_ptr<job>& of);
  result<std::shared_ptr<const block_index>> check(const job& of, import_file& from, place at);
  /// On a thread of a loop.
  void answer_to(const job& of, result<sealed_image> outcome);

  places places_;
  index_cache& indexes_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<job>> line_;
  std::unordered_map<uuid, std::shared_ptr<job>> unanswered_;
  std::size_t outstanding_ = 0; ///< seals, until all was done that comes behind their answer
  bool is_stopped_ = false;
  std::thread thread_; ///< from the first seal on
};

} // namespace coppice::storage
