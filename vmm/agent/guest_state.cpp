#include "vmm/agent/guest_state.hpp"

#include "vmm/agent/in_root.hpp"
#include "vmm/agent/mount_table.hpp"

#include <ctime>

#include <fcntl.h>
#include <linux/random.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace coppice::agent {
namespace {

constexpr const char* random_node = "/random";
constexpr const char* fresh_boot_id = "/boot_id";
constexpr const char* kernel_uuid = "/proc/sys/kernel/random/uuid";
constexpr std::size_t uuid_line_bytes = 37;

} // namespace

result<void> set_wall_clock(std::int64_t unix_time_ns) {
  constexpr std::int64_t second_ns = 1'000'000'000;
  timespec now{unix_time_ns / second_ns, unix_time_ns % second_ns};
  if (::clock_settime(CLOCK_REALTIME, &now) < 0) {
    return last_error("setting the clock");
  }
  return {};
}

result<void> prepare_random_node() {
  constexpr unsigned memory_major = 1; // Linux's Documentation/admin-guide/devices.txt
  constexpr unsigned random_minor = 8;
  if (::mknod(random_node, S_IFCHR | 0600, makedev(memory_major, random_minor)) < 0 &&
      errno != EEXIST) {
    return last_error("making the random pool's node");
  }
  return {};
}

result<void> add_entropy(std::span<const unsigned char> bytes) {
  if (bytes.size() < entropy_bytes_min) {
    return errno_failure(EINVAL, "seeding the random pool: the host sent too few bytes");
  }
  struct {
    int entropy_bits;
    int size_bytes;
    unsigned char data[64];
  } pool{};
  static_assert(offsetof(rand_pool_info, buf) == offsetof(decltype(pool), data));
  auto size = std::min(bytes.size(), sizeof(pool.data));
  std::memcpy(pool.data, bytes.data(), size);
  pool.entropy_bits = static_cast<int>(8 * size);
  pool.size_bytes = static_cast<int>(size);
  descriptor fd{::open(random_node, O_RDWR | O_CLOEXEC)};
  if (!fd || ::ioctl(fd.get(), RNDADDENTROPY, &pool) < 0 ||
      ::ioctl(fd.get(), RNDRESEEDCRNG, 0) < 0) {
    return last_error("seeding the random pool");
  }
  return {};
}

result<void> set_host_name(const std::string& name) {
  if (::sethostname(name.data(), name.size()) < 0) {
    return last_error("setting the host name");
  }
  return {};
}

result<void> raise_loopback() {
  descriptor fd{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  ifreq request{};
  std::memcpy(request.ifr_name, "lo", 3);
  if (!fd || ::ioctl(fd.get(), SIOCGIFFLAGS, &request) < 0) {
    return last_error("the loopback interface");
  }
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (::ioctl(fd.get(), SIOCSIFFLAGS, &request) < 0) {
    return last_error("raising the loopback interface");
  }
  return {};
}

result<void> draw_boot_id() {
  descriptor source{::open(kernel_uuid, O_RDONLY | O_CLOEXEC)};
  auto id = read_start_of(source.get(), uuid_line_bytes);
  if (id.size() != uuid_line_bytes) {
    return errno_failure(EIO, kernel_uuid);
  }
  // A new file each time: that of an earlier run may still be open somewhere.
  ::unlink(fresh_boot_id);
  descriptor fresh{::open(fresh_boot_id, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444)};
  if (!fresh || ::write(fresh.get(), id.data(), id.size()) != static_cast<ssize_t>(id.size())) {
    return last_error("writing a boot id");
  }
  return {};
}

result<void> cover_boot_id(int root) {
  auto over = open_in_root(root, "/proc/sys/kernel/random/boot_id", O_PATH);
  if (!over) {
    return over.error();
  }
  auto target = descriptor_path(over->get());
  if (::mount(fresh_boot_id, target.c_str(), nullptr, MS_BIND, nullptr) < 0) {
    return last_error("covering the boot id");
  }
  return {};
}

} // namespace coppice::agent
