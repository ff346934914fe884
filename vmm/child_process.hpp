#pragma once

#include "protocol/result.hpp"
#include "vmm/error.hpp"
#include "vmm/event_loop.hpp"
#include "vmm/launch_request.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace coppice::vmm {

/// A folder that a jailed child sees. Where its arguments contain the folder's path, they are told
/// the one in the jail instead.
struct child_folder {
  std::string path;                       ///< absolute
  std::int16_t role = placement::scratch; ///< or placement::layout
};

/// What to run. Exactly the listed descriptors reach the child, everything else is closed.
///
/// A kind other than plain is started by the event loop's launcher, in a jail; without a launcher
/// it is started like any other. In the jail the program and the environment are the kind's own,
/// and the folder is `/`.
struct child_options {
  child_kind kind = child_kind::plain;
  std::vector<std::string> argv; ///< argv[0] is an absolute path or found in PATH; for the kinds
                                 ///< of workers argv[1] is their subcommand
  std::vector<std::pair<int, int>>
      descriptors;                      ///< (ours, number in the child); ours stay open here
  std::vector<std::string> environment; ///< NAME=value; nothing is inherited
  std::string working_dir = "/";
  std::size_t output_bytes_max = 64u << 10; ///< kept of stdout+stderr where those are not listed

  // -- of a jailed child
  bool needs_kvm = false;
  std::vector<child_folder> folders;
  std::uint64_t address_space_bytes = 0; ///< 0: what is usual for the kind
  std::uint64_t file_bytes = 0;          ///< largest file that it may write, memfds included
  std::uint64_t memory_bytes = 0;        ///< of its cgroup, where there is one; 0: no limit
};

/// How a child ended.
struct child_exit {
  int code = -1;      ///< exit status, -1 after a signal
  int signal = -1;    ///< -1 without one
  std::string output; ///< the last bytes it wrote to stdout and stderr
};

/// One child process that never outlives us.
///
/// Problem: QEMU and helpers must be gone when their owner or the daemon is, even after kill -9,
/// and parent-death signals are lost on thread ends and changes of uid. So a child is started by a
/// small guard (this program, `coppice guard`) that is the first process of a pid namespace of its
/// own where we may make one: it ends when the pipe whose other end we hold closes, and the kernel
/// then kills everything in the namespace. Without the right to make namespaces the guard kills
/// the child's process group instead. With a launcher the guard is the first process of the jail.
///
/// Owner: one actor. Destroying it kills the child; `on_exit` still comes. Callbacks run on the
/// event loop's thread.
class child_process {
public:
  using exit_callback = std::function<void(child_exit)>;

  /// Starts the child; `on_exit` is called once, when it and everything it started are gone.
  /// spawn: with the reason (program missing, no memory …).
  static result<std::shared_ptr<child_process>> start(event_loop& loop, child_options options,
                                                      exit_callback on_exit);

  ~child_process();
  child_process(const child_process&) = delete;
  child_process& operator=(const child_process&) = delete;

  /// SIGKILL for the whole namespace. Safe at any time, more than once.
  void kill();

  /// The guard's pid as this process sees it (for logs and tests).
  int pid() const;

private:
  struct impl;
  explicit child_process(std::shared_ptr<impl> state);
  std::shared_ptr<impl> impl_;
};

/// The body of `coppice guard`: see child_process. Takes main's arguments as they are, before any
/// other use of them. Returns the exit status.
int guard_main(int argc, char** argv);

/// The program whose `guard` subcommand is guard_main; by default the running one. Call before the
/// first start.
void set_guard_program(std::string absolute_path);

} // namespace coppice::vmm
