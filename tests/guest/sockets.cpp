#include "tests/guest/feature.hpp"
#include "tests/guest/netlink.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_alg.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/if_xdp.h>
#include <linux/netlink.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

namespace features {
namespace {

template <class T>
std::string bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

std::string answered(int error, const std::string& doing) {
  errno = error;
  return need(error == 0, doing);
}

/// "FAMILY TYPE PROTOCOL"
std::string socket_of(const std::string& what) {
  std::size_t at = 0;
  const int family = std::stoi(what, &at);
  const auto rest = what.substr(at);
  const int type = std::stoi(rest, &at);
  return need(::socket(family, type, std::stoi(rest.substr(at))) >= 0, "socket");
}

std::string of_numbers(int family, int type, int protocol) {
  return std::to_string(family) + " " + std::to_string(type) + " " + std::to_string(protocol);
}

/// "TYPE ALGORITHM", as linux/if_alg.h has them.
std::string cipher(const std::string& what) {
  const auto space = what.find(' ');
  sockaddr_alg name{};
  name.salg_family = AF_ALG;
  what.copy(reinterpret_cast<char*>(name.salg_type), space);
  what.copy(reinterpret_cast<char*>(name.salg_name), sizeof(name.salg_name) - 1, space + 1);
  const int fd = ::socket(AF_ALG, SOCK_SEQPACKET, 0);
  return need(fd >= 0 && ::bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof(name)) == 0,
              "AF_ALG");
}

std::string tunnel(const std::string&) {
  const int device = ::open("/dev/net/tun", O_RDWR);
  if (device < 0) {
    return failed("/dev/net/tun");
  }
  ifreq wish{};
  wish.ifr_flags = IFF_TUN | IFF_NO_PI;
  return need(::ioctl(device, TUNSETIFF, &wish) == 0, "TUNSETIFF");
}

std::string in_own_network() {
  return need(::unshare(CLONE_NEWNET) == 0, "unshare");
}

netlink_message new_link(const std::string& name, const std::string& kind, unsigned below) {
  attributes info;
  info.add_text(IFLA_INFO_KIND, kind);
  if (kind == "vlan") {
    info.add_nested(IFLA_INFO_DATA, attributes{}.add(IFLA_VLAN_ID, {"\x05\0", 2}));
  } else if (kind == "vxlan") {
    info.add_nested(IFLA_INFO_DATA, attributes{}.add_u32(IFLA_VXLAN_ID, 5));
  }
  attributes all;
  all.add_text(IFLA_IFNAME, name).add_nested(IFLA_LINKINFO, info);
  if (below != 0) {
    all.add_u32(IFLA_LINK, below);
  }
  return {RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, bytes_of(ifinfomsg{}), all};
}

std::string interface(const std::string& kind) {
  if (auto why = in_own_network(); !why.empty()) {
    return why;
  }
  netlink routes{NETLINK_ROUTE};
  unsigned below = 0;
  if (kind == "macvlan" || kind == "ipvlan" || kind == "vlan") {
    if (const int error = routes.ask(new_link("below", "veth", 0)); error != 0) {
      return answered(error, "the veth below");
    }
    below = ::if_nametoindex("below");
  }
  return answered(routes.ask(new_link("made", kind, below)), "RTM_NEWLINK");
}

/// Discipline or filter; the kernel says ENOENT to one that it does not know.
std::string discipline(const std::string& kind) {
  if (auto why = in_own_network(); !why.empty()) {
    return why;
  }
  netlink routes{NETLINK_ROUTE};
  tcmsg where{};
  where.tcm_family = AF_UNSPEC;
  where.tcm_ifindex = static_cast<int>(::if_nametoindex("lo"));
  where.tcm_handle = kind == "ingress" ? 0xffff0000u : 0x10000u;
  where.tcm_parent = kind == "ingress" ? TC_H_INGRESS : TC_H_ROOT;
  attributes all;
  all.add_text(TCA_KIND, kind);
  const int error = routes.ask({RTM_NEWQDISC, NLM_F_CREATE, bytes_of(where), all});
  return error == ENOENT ? answered(error, "RTM_NEWQDISC") : std::string{};
}

std::string loopback_carries(const std::string& family) {
  if (auto why = in_own_network(); !why.empty()) {
    return why;
  }
  const bool is_six = family == "6";
  const int kind = is_six ? AF_INET6 : AF_INET;
  const int control = ::socket(kind, SOCK_DGRAM, 0);
  ifreq up{};
  std::memcpy(up.ifr_name, "lo", 3);
  up.ifr_flags = IFF_UP;
  if (::ioctl(control, SIOCSIFFLAGS, &up) < 0) {
    return failed("raising lo");
  }
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  six.sin6_addr = in6addr_loopback;
  sockaddr_in four{};
  four.sin_family = AF_INET;
  four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* address = is_six ? reinterpret_cast<sockaddr*>(&six) : reinterpret_cast<sockaddr*>(&four);
  socklen_t size = is_six ? sizeof(six) : sizeof(four);
  const int server = ::socket(kind, SOCK_STREAM, 0);
  if (::bind(server, address, size) < 0 || ::listen(server, 1) < 0 ||
      ::getsockname(server, address, &size) < 0) {
    return failed("listening");
  }
  const int client = ::socket(kind, SOCK_STREAM, 0);
  char got = 0;
  if (::connect(client, address, size) < 0 || ::write(client, "x", 1) != 1) {
    return failed("connecting");
  }
  return need(::read(::accept(server, nullptr, nullptr), &got, 1) == 1 && got == 'x', "accept");
}

std::string socket_listing(const std::string&) {
  netlink diagnosis{NETLINK_SOCK_DIAG};
  // struct inet_diag_req_v2: family, protocol, what else, states, one socket's id
  std::string request(56, '\0');
  request[0] = AF_INET;
  request[1] = IPPROTO_TCP;
  return answered(diagnosis.ask({SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, request, {}}), "sock_diag");
}

std::string congestion(const std::string& name) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  return need(::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(),
                           static_cast<socklen_t>(name.size())) == 0,
              "TCP_CONGESTION");
}

/// ENOTCONN from a kernel that knows it.
std::string kernel_tls(const std::string&) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  errno = 0;
  return ::setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 3) == 0 || errno == ENOTCONN
             ? std::string{}
             : failed("TCP_ULP");
}

std::string routing_rules(const std::string&) {
  netlink routes{NETLINK_ROUTE};
  return answered(routes.ask({RTM_GETRULE, NLM_F_DUMP, bytes_of(rtmsg{}), {}}), "RTM_GETRULE");
}

} // namespace

void add_sockets(std::vector<feature>& to) {
  constexpr int multipath_tcp = 262;
  const std::pair<const char*, std::string> kinds[] = {
      {"unix", of_numbers(AF_UNIX, SOCK_SEQPACKET, 0)},
      {"icmp_raw", of_numbers(AF_INET, SOCK_RAW, IPPROTO_ICMP)},
      {"packet", of_numbers(AF_PACKET, SOCK_RAW, 0)},
      {"vsock", of_numbers(AF_VSOCK, SOCK_STREAM, 0)},
      {"xdp", of_numbers(AF_XDP, SOCK_RAW, 0)},
      {"mptcp", of_numbers(AF_INET, SOCK_STREAM, multipath_tcp)},
      {"netlink_route", of_numbers(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)},
      {"netlink_uevent", of_numbers(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT)},
      {"netlink_generic", of_numbers(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC)},
      {"netlink_connector", of_numbers(AF_NETLINK, SOCK_RAW, NETLINK_CONNECTOR)}};
  for (const auto& [name, numbers] : kinds) {
    to.push_back({std::string{"socket_"} + name, socket_of, numbers});
  }
  to.push_back({"tcp_ipv4", loopback_carries, "4"});
  to.push_back({"tcp_ipv6", loopback_carries, "6"});
  to.push_back({"tcp_tls", kernel_tls, ""});
  to.push_back({"tcp_bbr", congestion, "bbr"});
  to.push_back({"sock_diag", socket_listing, ""});
  to.push_back({"routing_rules", routing_rules, ""});
  to.push_back({"tun", tunnel, ""});
  for (const char* name : {"hash sha256", "hash hmac(sha1)", "hash md5", "hash crc32c",
                           "skcipher cbc(aes)", "skcipher ctr(aes)", "skcipher xts(aes)",
                           "aead gcm(aes)", "aead rfc7539(chacha20,poly1305)", "rng stdrng"}) {
    to.push_back({std::string{"af_alg "} + name, cipher, name});
  }
  for (const char* kind :
       {"veth", "bridge", "dummy", "macvlan", "ipvlan", "vlan", "vxlan", "wireguard"}) {
    to.push_back({std::string{"link_"} + kind, interface, kind});
  }
  for (const char* kind : {"htb", "prio", "sfq", "tbf", "netem", "fq_codel", "fq", "ingress",
                           "clsact", "pfifo_fast"}) {
    to.push_back({std::string{"qdisc_"} + kind, discipline, kind});
  }
}

} // namespace features
