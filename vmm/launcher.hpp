#pragma once

#include "protocol/result.hpp"
#include "vmm/error.hpp"
#include "vmm/jail_root.hpp"
#include "vmm/launch_request.hpp"
#include "vmm/unique_fd.hpp"

#include <sys/types.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace coppice::vmm {

/// What the launcher is told at its start, by the daemon while that is still trusted.
struct launcher_config {
  jail_contents contents;
  std::uint32_t uid_first = 0; ///< of the range that belongs to jails
  std::uint32_t uid_count = 0; ///< jails that may live at once
  uid_t owner_uid = 0;         ///< the daemon's user, to whom the state folder belongs
  gid_t owner_gid = 0;
};

/// What the launcher found possible here.
struct launcher_facts {
  bool has_user_namespaces = false; ///< QEMU gets an empty root on top of its jail
  std::string without_cgroups;      ///< why processes have no cgroups; empty: they have
};

/// A process that the launcher has started.
struct launched_process {
  int pid = -1; ///< of its guard, as the host numbers it
  unique_fd pidfd;
};

/// The daemon's end of the launcher.
///
/// Problem: jails need root, and a daemon that parses what the world sends must not be root. So a
/// small process (`coppice launcher`), started before anything else and executed anew so that it
/// has neither the daemon's memory nor its threads, keeps the rights. All that it does for the
/// daemon is to start one of a few fixed programs in a jail (vmm/jail.hpp), asked in the strict
/// form of vmm/launch_request.hpp. It ends, and kills all jails, when this object or the daemon is
/// gone.
///
/// Any thread; one request at a time.
class launcher {
public:
  /// Starts the launcher from `program` (this one). Call while this process has one thread and is
  /// still root. spawn: what is missing.
  static result<std::shared_ptr<launcher>> start(launcher_config config,
                                                 const std::string& program);

  /// Waits for its end.
  ~launcher();
  launcher(const launcher&) = delete;
  launcher& operator=(const launcher&) = delete;

  /// A jailed process whose descriptors are `descriptors`, placed as the request says.
  result<launched_process> launch(const launch_request& request,
                                  const std::vector<int>& descriptors);

  /// Readable when the launcher has ended; owned by this.
  int pidfd() const {
    return pidfd_.get();
  }

  const launcher_facts& facts() const {
    return facts_;
  }

  /// A path of the host as QEMU sees it in its jail, if it is one of the guest's files.
  std::optional<std::string> guest_path(const std::string& host_path) const;

  /// Such a file, opened while this process was root: its own user may not be able to. -1: none.
  int guest_file(const std::string& host_path) const;

private:
  launcher(launcher_config config, pid_t pid, unique_fd pidfd, unique_fd socket);
  result<void> greet();

  const launcher_config config_;
  const pid_t pid_;
  const unique_fd pidfd_;
  std::vector<unique_fd> guest_files_; // as config_.contents.guest_files
  launcher_facts facts_;
  std::mutex mutex_; // one request at a time
  unique_fd socket_; // none: it broke
};

inline constexpr const char* launcher_command = "launcher";

/// The body of `coppice launcher`. Takes main's arguments as they are, before any other use of
/// them; its socket has number 3. Returns the exit status.
int launcher_main(int argc, char** argv);

/// `config` as command line arguments and back. Nothing: not made by the first.
std::vector<std::string> to_arguments(const launcher_config& config);
std::optional<launcher_config> parse_launcher_arguments(const std::vector<std::string>& arguments);

} // namespace coppice::vmm
