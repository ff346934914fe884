#include "vmm/agent/boot.hpp"

#include "vmm/agent/guest_state.hpp"
#include "vmm/agent/mount_table.hpp"
#include "vmm/agent/pause.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <cstdio>

namespace coppice::agent {
namespace {

constexpr const char* port_name = "ag";
/// At most this long from the modules' start to the port; tens of milliseconds are usual.
constexpr int port_tries = 15'000;
constexpr int port_pause_ms = 2;
/// Ports that one virtio-serial device of ours could have.
constexpr int ports_max = 16;
constexpr std::size_t order_bytes_max = 64u << 10;
constexpr std::size_t nodes_bytes_max = 4u << 10;

result<void> mount_own(const char* type, const char* path) {
  ::mkdir(path, 0755);
  if (::mount(type, path, type, 0, "") < 0 && errno != EBUSY) {
    return last_error(std::string{"mounting the agent's "} + path);
  }
  return {};
}

result<void> load_module(const std::string& path) {
  descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!file) {
    return last_error(path);
  }
  if (::syscall(SYS_finit_module, file.get(), "", 0) < 0 && errno != EEXIST) {
    return last_error("loading " + path);
  }
  return {};
}

/// A program opens such a node, and the kernel then looks for the module that is behind it: where
/// a driver is not built in, its node is not there by itself. `line`: "MAJOR MINOR MODE NAME".
result<void> make_node(const std::string& line) {
  unsigned major = 0;
  unsigned minor = 0;
  unsigned mode = 0;
  char name[64] = {};
  if (std::sscanf(line.c_str(), "%u %u %o %63s", &major, &minor, &mode, name) != 4) {
    return errno_failure(EINVAL, "/modules/nodes: " + line);
  }
  const auto path = std::string{"/dev/"} + name;
  if (const auto slash = path.rfind('/'); slash > 4) {
    ::mkdir(path.substr(0, slash).c_str(), 0755);
  }
  if (::mknod(path.c_str(), S_IFCHR | mode, makedev(major, minor)) < 0 && errno != EEXIST) {
    return last_error("making " + path);
  }
  return {};
}

/// Calls `use` for each line of a file that need not be there, until one fails.
template <class Use>
result<void> for_each_line(const char* file, std::size_t bytes_max, Use use) {
  descriptor in{::open(file, O_RDONLY | O_CLOEXEC)};
  auto text = read_start_of(in.get(), bytes_max);
  std::string_view rest = text;
  while (!rest.empty()) {
    auto end = std::min(rest.find('\n'), rest.size());
    if (end > 0) {
      if (auto used = use(std::string{rest.substr(0, end)}); !used) {
        return used;
      }
    }
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return {};
}

/// "vport1p1" of the port whose name is ours; empty as long as there is none.
std::string find_port() {
  for (int device = 0; device < ports_max; ++device) {
    for (int nr = 0; nr < ports_max; ++nr) {
      auto port = "vport" + std::to_string(device) + "p" + std::to_string(nr);
      descriptor name{
          ::open(("/sys/class/virtio-ports/" + port + "/name").c_str(), O_RDONLY | O_CLOEXEC)};
      if (name && read_start_of(name.get(), 64) == std::string{port_name} + "\n") {
        return port;
      }
    }
  }
  return {};
}

} // namespace

result<void> prepare_own_system() {
  ::umask(0);
  for (auto [type, path] : {std::pair{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}}) {
    if (auto mounted = mount_own(type, path); !mounted) {
      return mounted;
    }
  }
  ::mkdir("/mnt", 0755);
  if (auto made = prepare_random_node(); !made) {
    return made;
  }
  // Deadlines and the host's orders come before whatever a run does with the processor, be it a
  // thousand processes that want it. What we start is scheduled like any other.
  sched_param first{.sched_priority = 1};
  ::sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first);
  // What a login on a server gives: few by default, as many as it asks for up to the hard limit.
  rlimit files{1024, 512 * 1024};
  ::setrlimit(RLIMIT_NOFILE, &files);
  if (auto made = for_each_line("/modules/nodes", nodes_bytes_max, make_node); !made) {
    return made;
  }
  return for_each_line("/modules/order", order_bytes_max,
                       [](const std::string& name) { return load_module("/modules/" + name); });
}

result<descriptor> open_host_port() {
  descriptor port;
  for (int i = 0; i < port_tries; ++i) {
    if (!port) {
      auto name = find_port();
      if (!name.empty()) {
        port = descriptor{::open(("/dev/" + name).c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC)};
      }
    }
    if (port) {
      pollfd event{port.get(), POLLIN | POLLOUT, 0};
      if (::poll(&event, 1, 0) == 1 && !(event.revents & POLLHUP)) {
        return port;
      }
    }
    pause_ms(port_pause_ms);
  }
  return errno_failure(ETIMEDOUT, port
                                      ? "the host's end of the port is closed"
                                      : std::string{"no virtio-serial port is named "} + port_name);
}

} // namespace coppice::agent
