#include "gateway/cli/confine.hpp"

#include "storage/error.hpp"

#include <grp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace coppice::cli {
namespace {

constexpr uid_t nobody = 65534;

result<void> lower(__rlimit_resource_t resource, std::uint64_t value, const char* name) {
  rlimit limit{};
  ::getrlimit(resource, &limit);
  limit.rlim_max = std::min<rlim_t>(limit.rlim_max, value);
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(resource, &limit) != 0) {
    return storage::io_failure(errno, std::string{"cannot limit the worker's "} + name);
  }
  return {};
}

} // namespace

result<void> limit_worker(const worker_limits& limits) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return storage::io_failure(errno, "cannot forbid new privileges to the worker");
  }
  if (auto done = lower(RLIMIT_CORE, 0, "core dump"); !done) {
    return done;
  }
  if (auto done = lower(RLIMIT_CPU, limits.cpu_seconds, "processor time"); !done) {
    return done;
  }
  if (auto done = lower(RLIMIT_FSIZE, limits.file_bytes, "file size"); !done) {
    return done;
  }
#ifndef __SANITIZE_ADDRESS__ // whose shadow memory alone takes terabytes of address space
  if (auto done = lower(RLIMIT_AS, limits.address_space_bytes, "memory"); !done) {
    return done;
  }
#endif
  return {};
}

result<void> drop_rights() {
  // Without the right to make namespaces it keeps the network of the daemon; it has no use for it.
  static_cast<void>(::unshare(CLONE_NEWNET | CLONE_NEWIPC));
  if (::geteuid() != 0) {
    return {};
  }
  if (::setgroups(0, nullptr) != 0 || ::setresgid(nobody, nobody, nobody) != 0 ||
      ::setresuid(nobody, nobody, nobody) != 0) {
    return storage::io_failure(errno, "cannot give up root in the worker");
  }
  return {};
}

} // namespace coppice::cli
