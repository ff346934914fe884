#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

/// What a store did to its disk, step by step, so that every disk that a power cut may leave can be
/// built afterwards (disk_model.hpp).
namespace coppice::storage::test::crash {

/// One call that changes a folder or makes it durable. Paths are relative to the recorded folder.
struct step {
  enum class kind : std::uint8_t {
    make_file,      ///< `path` is `file`, empty
    make_directory, ///< `path`
    write,          ///< `data` at `offset` of `file`
    set_length,     ///< `file` has `length` bytes
    punch,          ///< `length` bytes at `offset` of `file` are zeros
    rename,         ///< `path` becomes `path_to`
    remove,         ///< `path`
    sync_file,      ///< data and length of `file`
    sync_directory, ///< the names in `path`
    note,           ///< something was told to a client, or is not true any more: `number`
  };

  kind what = kind::note;
  ino_t file = 0;
  std::string path;
  std::string path_to;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::vector<std::byte> data;
  bool is_durable = false; ///< of a write: through a descriptor with O_DSYNC
  std::size_t number = 0;

  std::int64_t result = 0; ///< as the system call has it, or the negated errno

  /// "sync of images", for people.
  std::string text() const;
};

/// Steps overlap: the order is that of their beginnings and ends.
class trace {
public:
  struct event {
    std::size_t number = 0; ///< of the step
    bool is_end = false;
  };

  explicit trace(std::filesystem::path root);

  std::size_t begin(step what);
  void end(std::size_t number, std::int64_t result);
  void note(std::size_t number);

  /// The path below the recorded folder; false: it is elsewhere.
  bool inside(const std::string& path, std::string& relative) const;
  /// Whether that descriptor is of something in the folder. `step.file` and `step.path` are filled.
  bool inside(int fd, step& of, bool& is_directory) const;

  const std::filesystem::path& root() const {
    return root_;
  }
  const std::vector<step>& steps() const {
    return steps_;
  }
  const std::vector<event>& events() const {
    return events_;
  }

private:
  std::filesystem::path root_;
  std::vector<step> steps_;
  std::vector<event> events_;
};

/// While it lives, the system calls that this thread makes through the C library are recorded
/// (system_calls.cpp); those of the ring are the recording ring's to tell.
class recording {
public:
  explicit recording(trace& into);
  ~recording();
  recording(const recording&) = delete;
  recording& operator=(const recording&) = delete;
};

/// The trace of this thread, or null.
trace*& current();

} // namespace coppice::storage::test::crash
