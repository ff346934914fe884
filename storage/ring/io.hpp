#pragma once

#include "protocol/result.hpp"
#include "storage/ring/ring.hpp"
#include "storage/ring/task.hpp"

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

/// Calls on a ring as a coroutine sees them. Each does all of what it says or fails with what and
/// where (storage::io_failure). Names must not be links in their last component; names and buffers
/// are referred to until the task ends.
namespace coppice::storage::io {

/// Awaits one request and gives its result as the ring has it.
class once {
public:
  once(ring& on, io_request request);

  bool await_ready() const noexcept {
    return false;
  }
  void await_suspend(std::coroutine_handle<> caller);
  std::int64_t await_resume() const noexcept {
    return request_.result;
  }

private:
  struct waiting : io_request {
    std::coroutine_handle<> caller;
  };
  ring& ring_;
  waiting request_;
};

/// `flags` as open(2); O_CLOEXEC and O_NOFOLLOW are added. conflict: O_EXCL and it exists.
task<result<int>> open(ring& on, const std::string& path, int flags, mode_t mode = 0600);
task<void> close(ring& on, int fd);

/// Fills `out`; bytes behind the end of the file are a failure (io). `name` is for the text.
task<result<void>> read(ring& on, int fd, std::uint64_t offset_bytes, std::span<std::byte> out,
                        const std::string& name);
task<result<void>> write(ring& on, int fd, std::uint64_t offset_bytes,
                         std::span<const std::byte> data, const std::string& name);
/// The same, and the file's data is durable when it returns: one linked pair.
task<result<void>> write_durably(ring& on, int fd, std::uint64_t offset_bytes,
                                 std::span<const std::byte> data, const std::string& name);
task<result<void>> sync_data(ring& on, int fd, const std::string& name);
task<result<void>> sync_directory(ring& on, const std::string& path);
/// The bytes read as zeros and take no space.
task<result<void>> punch_hole(ring& on, int fd, std::uint64_t offset_bytes,
                              std::uint64_t length_bytes, const std::string& name);
/// conflict: `to` exists; it is not touched. Durable after a sync of the directories.
task<result<void>> rename(ring& on, const std::string& from, const std::string& to);
/// False where there was nothing to remove.
task<result<bool>> remove(ring& on, const std::string& path);

struct file_status {
  std::uint64_t size_bytes = 0;
  std::uint64_t allocated_bytes = 0; ///< on disk, holes not counted
  bool is_regular = false;
};
task<result<file_status>> status(ring& on, int fd, const std::string& name);

/// Turns the ring until `work` has ended. Not from inside a task.
template <class T>
T run(ring& on, task<T> work) {
  if constexpr (std::is_void_v<T>) {
    bool ended = false;
    start([](task<void> inner, bool& flag) -> task<void> {
      co_await std::move(inner);
      flag = true;
    }(std::move(work), ended));
    while (!ended) {
      on.turn();
    }
  } else {
    std::optional<T> out;
    start(std::move(work), [&](T value) { out.emplace(std::move(value)); });
    while (!out) {
      on.turn();
    }
    return std::move(*out);
  }
}

} // namespace coppice::storage::io
