#include "vmm/agent/guest_state.hpp"

#include <ctime>

#include <fcntl.h>
#include <linux/random.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace coppice::agent {

result<void> set_wall_clock(std::int64_t unix_time_ns) {
  constexpr std::int64_t second_ns = 1'000'000'000;
  timespec now{unix_time_ns / second_ns, unix_time_ns % second_ns};
  if (::clock_settime(CLOCK_REALTIME, &now) < 0) {
    return last_error("setting the clock");
  }
  return {};
}

result<void> add_entropy(std::span<const unsigned char> bytes) {
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
  descriptor fd{::open("/dev/random", O_RDWR | O_CLOEXEC)};
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

} // namespace coppice::agent
