#include "tests/guest/netlink.hpp"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace features {
namespace {

template <class T>
std::string bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

} // namespace

attributes& attributes::add(std::uint16_t type, std::string_view value) {
  const nlattr head{static_cast<std::uint16_t>(sizeof(nlattr) + value.size()), type};
  bytes_ += bytes_of(head);
  bytes_ += value;
  bytes_.resize(NLMSG_ALIGN(bytes_.size()));
  return *this;
}

attributes& attributes::add_text(std::uint16_t type, const std::string& value) {
  return add(type, {value.c_str(), value.size() + 1});
}

attributes& attributes::add_u32(std::uint16_t type, std::uint32_t value) {
  return add(type, bytes_of(value));
}

attributes& attributes::add_big_u32(std::uint16_t type, std::uint32_t value) {
  return add_u32(type, htonl(value));
}

attributes& attributes::add_nested(std::uint16_t type, const attributes& inside) {
  return add(static_cast<std::uint16_t>(type | NLA_F_NESTED), inside.bytes());
}

netlink::netlink(int protocol) : fd_{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol)} {}

netlink::~netlink() {
  ::close(fd_);
}

std::string netlink::packed(const netlink_message& message, bool wants_answer) {
  nlmsghdr head{};
  head.nlmsg_len =
      static_cast<std::uint32_t>(sizeof(head) + message.head.size() + message.rest.bytes().size());
  head.nlmsg_type = message.type;
  head.nlmsg_flags =
      static_cast<std::uint16_t>(NLM_F_REQUEST | message.flags | (wants_answer ? NLM_F_ACK : 0));
  head.nlmsg_seq = ++sequence_;
  auto out = bytes_of(head) + message.head + message.rest.bytes();
  out.resize(NLMSG_ALIGN(out.size()));
  return out;
}

int netlink::answer(std::uint32_t sequence) {
  alignas(nlmsghdr) char buffer[16384];
  for (;;) {
    const auto got = ::recv(fd_, buffer, sizeof(buffer), 0);
    if (got < static_cast<ssize_t>(sizeof(nlmsghdr))) {
      return got < 0 ? errno : EPROTO;
    }
    const auto* head = reinterpret_cast<const nlmsghdr*>(buffer);
    if (head->nlmsg_seq != sequence) {
      continue;
    }
    if (head->nlmsg_type != NLMSG_ERROR) {
      return 0; // what was asked for
    }
    return -reinterpret_cast<const nlmsgerr*>(NLMSG_DATA(head))->error;
  }
}

int netlink::ask(const netlink_message& message) {
  const auto bytes = packed(message, true);
  if (::send(fd_, bytes.data(), bytes.size(), 0) < 0) {
    return errno;
  }
  return answer(sequence_);
}

int netlink::ask_in_batch(const netlink_message& message) {
  const nfgenmsg of_tables{AF_UNSPEC, NFNETLINK_V0, htons(NFNL_SUBSYS_NFTABLES)};
  auto bytes = packed({NFNL_MSG_BATCH_BEGIN, 0, bytes_of(of_tables), {}}, false);
  bytes += packed(message, true);
  const auto sequence = sequence_;
  bytes += packed({NFNL_MSG_BATCH_END, 0, bytes_of(of_tables), {}}, false);
  if (::send(fd_, bytes.data(), bytes.size(), 0) < 0) {
    return errno;
  }
  return answer(sequence);
}

} // namespace features
