#pragma once

#include "storage/ring/ring.hpp"

#include <functional>
#include <memory>

namespace coppice::storage {

/// A thread that turns one ring, and its mailbox.
///
/// Guarantee: posted functions run on the loop's thread, in the order in which they were posted by
/// one thread. The destructor stops taking posts, lets what runs end (its owner has made sure that
/// nothing waits for ever) and joins the thread.
class loop {
public:
  /// `number` names the thread.
  loop(std::unique_ptr<ring> on, unsigned number);
  ~loop();
  loop(const loop&) = delete;
  loop& operator=(const loop&) = delete;

  /// From any thread, also the loop's own.
  void post(std::function<void()> work);

  /// Only on the loop's thread.
  ring& requests();

  bool is_current_thread() const;

private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

} // namespace coppice::storage
